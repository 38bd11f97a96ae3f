/* The heap for C. Compiles as C99 and as C++.
 *
 *   warpheap_heap* heap = warpheap_create(NULL);
 *   char* text = warpheap_malloc(heap, 100);
 *   warpheap_free(heap, text);
 *   warpheap_destroy(heap);
 *
 * What cannot be done is answered with NULL, -1 or 0, as said with each call; errno is set, and
 * warpheap_last_error() has a text. A heap or region of NULL is answered so with EINVAL by every
 * call but destroy. No C++ exception leaves these functions.
 *
 * Thread-safety is that of warpheap::heap: the calls on objects and on scratch stacks, mark,
 * get_memory, memory_text, memory_json, set_memory_limit, write_profile and the questions about the
 * backend may be used by any thread at any time. All others are for the heap at rest: no other call
 * and no kernel uses it meanwhile.
 *
 * Structs begin with their size, which the caller sets: a program that was compiled with an older
 * and shorter version of one goes on with what it knows. Texts that are given as char* belong to
 * the caller, who releases them with free(); of NULL, errno says why: ENOMEM, or EIO when a kernel
 * has failed. */
#ifndef WARPHEAP_WARPHEAP_H
#define WARPHEAP_WARPHEAP_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct warpheap_heap warpheap_heap;

enum {
  WARPHEAP_BACKEND_AUTOMATIC = 0, /* CUDA where a device can be used, else the CPU */
  WARPHEAP_BACKEND_CUDA = 1,
  WARPHEAP_BACKEND_SIMT = 2 /* the CPU */
};

/* Options of a heap; warpheap_options_init fills in the defaults. The meaning of each is that of
 * the member of this name in warpheap/options.hpp, and the environment variable WARPHEAP has the
 * last word here, too. */
typedef struct warpheap_options {
  size_t struct_size; /* sizeof(warpheap_options), set by warpheap_options_init */
  size_t reserve_bytes;
  size_t initial_stock_bytes;
  uint64_t refill_timeout_ns;
  int backend;        /* WARPHEAP_BACKEND_... */
  int refill_service; /* 0 or 1 */
  int report_leaks;   /* 0 or 1 */
  /* Called with one line for each report; NULL: the line goes to standard error. It may be called
   * by any thread that uses the heap, and must return. */
  void (*on_report)(void* context, const char* line);
  void* report_context;
  size_t memory_limit; /* bytes; 0: none */
  int scavenge;        /* 0 or 1 */
  size_t device_events;
  /* Names of files; NULL: none. They are copied. */
  const char* print_state_file;
  const char* profile_file;
  const char* trace_file;
  size_t profile_rate; /* bytes */
  size_t quarantine_bytes;
  int annotate, red_zones, clobber_free, efence, sbrk; /* 0 or 1 */
  size_t least_reserve_bytes;
} warpheap_options;

void warpheap_options_init(warpheap_options* options);

/* A new heap; options of NULL are the defaults. NULL with EINVAL for options that make no sense,
 * ENODEV for a backend that cannot be used, ENOMEM when there is not enough memory, the system's
 * errno for a trace that cannot be written. */
warpheap_heap* warpheap_create(const warpheap_options* options);
/* Gives all memory of the heap back, that of live objects, too. NULL is ignored. */
void warpheap_destroy(warpheap_heap* heap);

/* As the C functions of these names, on this heap. NULL with ENOMEM when there is no memory or the
 * size overflows. malloc(0) gives one address, of which nothing may be used and which may be freed
 * any number of times. */
void* warpheap_malloc(warpheap_heap* heap, size_t size);
/* As malloc, for an object that may hold pointers to others, which mark_reachable follows, and so
 * for the other calls of this ending; those of the calls without it hold none. realloc keeps the
 * kind. */
void* warpheap_malloc_pointers(warpheap_heap* heap, size_t size);
void* warpheap_calloc(warpheap_heap* heap, size_t count, size_t size);
void* warpheap_calloc_pointers(warpheap_heap* heap, size_t count, size_t size);
/* NULL with EINVAL for an alignment that is no power of two. The size need not be a multiple. */
void* warpheap_aligned_alloc(warpheap_heap* heap, size_t alignment, size_t size);
void* warpheap_aligned_alloc_pointers(warpheap_heap* heap, size_t alignment, size_t size);
/* p of NULL: malloc. Size 0 frees p and gives what malloc(0) gives. NULL with EINVAL for what is no
 * live object of the host. When it fails, the object is as it was. */
void* warpheap_realloc(warpheap_heap* heap, void* p, size_t size);
/* Frees an object of the host or of a kernel. NULL is ignored; a wrong pointer is counted and
 * reported, and changes nothing. errno stays as it is. */
void warpheap_free(warpheap_heap* heap, void* p);
/* Bytes that may be used at p, at least those asked for; 0 for what is no live object of the host.
 */
size_t warpheap_usable_size(const warpheap_heap* heap, const void* p);

/* ---- Scratch stacks: memory for coroutines, signal handlers, the buffers of a call. ---- */

/* `bytes` rounded up to a power of two, at least 2 KiB, aligned to `alignment`, a power of two up
 * to 8 KiB; contents are indeterminate. It is no object: free refuses it, reset leaves it, and it
 * has to be released before the heap goes. NULL with EINVAL for another alignment, ENOMEM when
 * there is no room. */
void* warpheap_acquire_stack(warpheap_heap* heap, size_t bytes, size_t alignment);
/* bytes and alignment as they were acquired, by any thread. NULL is ignored; errno is EINVAL for an
 * alignment or size that no stack has. Aborts when there is no such stack at p. */
void warpheap_release_stack(warpheap_heap* heap, void* p, size_t bytes, size_t alignment);
/* Bytes that acquire_stack gives; 0 with EINVAL for an alignment or a size that it does not. */
size_t warpheap_stack_size(size_t bytes, size_t alignment);

/* ---- Regions: objects that are freed together. ---- */

/* One thread at a time uses a region. See warpheap/region.hpp for how a region that ended is
 * protected from use. */
typedef struct warpheap_region warpheap_region;

/* A region takes chunks from the heap, which has to outlive it: the first of first_chunk_bytes,
 * each next one twice as large up to largest_chunk_bytes; 0: the defaults, 64 KiB and 8 MiB. NULL
 * with ENOMEM when there is no memory for its record. */
warpheap_region* warpheap_region_create(warpheap_heap* heap, size_t first_chunk_bytes,
                                        size_t largest_chunk_bytes);
/* Frees everything in it, and the region. NULL is ignored. */
void warpheap_region_destroy(warpheap_region* region);
/* Indeterminate bytes. NULL with EINVAL for an alignment that is no power of two up to 8 KiB,
 * ENOMEM when there is no room. */
void* warpheap_region_malloc(warpheap_region* region, size_t bytes, size_t alignment);
/* Frees everything at once. The region can be used again. */
void warpheap_region_clear(warpheap_region* region);
/* Bytes handed out since the last clear, with what alignment took; and bytes of the chunks. */
size_t warpheap_region_used_bytes(const warpheap_region* region);
size_t warpheap_region_chunk_bytes(const warpheap_region* region);

/* ---- Figures. ---- */

/* Both sides together, counted anew; in bytes unless the name says otherwise. */
typedef struct warpheap_stats {
  size_t struct_size;         /* sizeof(warpheap_stats), set by the caller */
  uint64_t reserve_bytes;     /* address space of the heap */
  uint64_t bytes_in_use;      /* live bytes, host and kernels */
  uint64_t page_bytes;        /* pages in spans and large objects */
  uint64_t peak_bytes;        /* most pages ever in use at once */
  uint64_t host_live_objects; /* objects of the host that were not freed */
  uint64_t host_live_bytes;
  uint64_t host_mallocs; /* objects of the host ever allocated */
  uint64_t host_frees;
  uint64_t device_live_objects; /* objects of kernels that were not freed */
  uint64_t device_live_bytes;
  uint64_t out_of_memory; /* allocations answered with NULL for want of memory */
  uint64_t wrong_frees;   /* all other errors of both sides: the sum of the rest of errors[] */
  /* From here on as the members of warpheap::heap_stats that have these names. Those that are
   * missing, of each class of the device and of latencies, are in warpheap_stats_json. */
  uint64_t host_span_bytes;
  uint64_t host_spans; /* spans of small objects */
  uint64_t device_span_bytes;
  uint64_t device_spans;
  uint64_t device_tiny_objects;
  uint64_t device_large_objects;
  uint64_t stock_bytes; /* free pages that the device holds */
  uint64_t device_grows;
  uint64_t device_retires;
  uint64_t device_pages_home; /* pages */
  uint64_t host_requests;
  uint64_t host_waits;
  uint64_t longest_wait_ns;
  uint64_t errors[8]; /* by WARPHEAP_ERROR_... */
  uint64_t unreachable_words;
  uint64_t phantom_words;
} warpheap_stats;

/* Counts everything into *stats; of a shorter struct_size, what fits. 0, or -1 with EINVAL for a
 * NULL or a struct_size that no version had, EIO when a kernel has failed. */
int warpheap_get_stats(warpheap_heap* heap, warpheap_stats* stats);
/* The same, complete, for people and as JSON (warpheap/heap.hpp says which). */
char* warpheap_stats_text(warpheap_heap* heap);
char* warpheap_stats_json(warpheap_heap* heap);

enum { WARPHEAP_CLASSES = 68, WARPHEAP_RESETS_KEPT = 256 };

/* Where the memory is and what was done with it, of the host's side. Each member is the one of
 * this name in warpheap/memory_stats.hpp, which says what it counts and what adds up to what: in
 * bytes, but for counts of objects, events and threads. */
typedef struct warpheap_memory {
  size_t struct_size; /* sizeof(warpheap_memory), set by the caller */
  uint64_t sys;
  uint64_t heap_sys, heap_inuse, heap_idle, heap_released, quarantined;
  uint64_t device_sys;
  uint64_t stacks_sys, stacks_inuse;
  uint64_t regions_sys;
  uint64_t mspan_sys, mspan_inuse;
  uint64_t mcache_sys, mcache_inuse;
  uint64_t tiny_mask_sys, buckhash_sys, page_table_sys, device_table_sys, other_sys;
  uint64_t reserved, committed, memory_limit, peak;
  uint64_t scavenged_asked, scavenged_growth, scavenged_limit, scavenged_background;
  uint64_t heap_alloc, total_alloc;      /* bytes */
  uint64_t mallocs, frees, live_objects; /* objects */
  uint64_t tiny_mallocs, tiny_frees;     /* objects */
  uint64_t tiny_blocks;                  /* blocks of 16 bytes */
  uint64_t large_alloc, large_free;      /* bytes */
  uint64_t large_mallocs, large_frees;   /* objects */
  uint64_t out_of_memory, refused;       /* allocations */
  uint64_t thread_caches;                /* threads */
  uint64_t resets, resets_total_ns;      /* times; nanoseconds */
  struct {
    uint64_t slot_bytes; /* 0: large objects */
    uint64_t mallocs, frees;
  } by_class[WARPHEAP_CLASSES];
  /* Of the last resets; the last one is at (resets + 255) % 256. */
  uint64_t reset_duration_ns[WARPHEAP_RESETS_KEPT];
  uint64_t reset_end_unix_ns[WARPHEAP_RESETS_KEPT];
} warpheap_memory;

/* 0, or -1 with EINVAL for a NULL or a struct_size that no version had. */
int warpheap_get_memory(const warpheap_heap* heap, warpheap_memory* memory);
char* warpheap_memory_text(const warpheap_heap* heap);
char* warpheap_memory_json(const warpheap_heap* heap);

/* All of the heap as text for people, also onto a file. print_state: 0, or -1 with EINVAL for a
 * file of NULL, EIO when it cannot be written or a kernel has failed. */
char* warpheap_state_text(warpheap_heap* heap);
int warpheap_print_state(warpheap_heap* heap, FILE* to);

/* Kinds of errors, as warpheap::error_kind. */
enum {
  WARPHEAP_ERROR_FOREIGN_POINTER = 0,
  WARPHEAP_ERROR_INTERIOR_POINTER = 1,
  WARPHEAP_ERROR_DOUBLE_FREE = 2,
  WARPHEAP_ERROR_LATE_DOUBLE_FREE = 3,
  WARPHEAP_ERROR_NOT_ALLOCATED = 4,
  WARPHEAP_ERROR_OUT_OF_MEMORY = 5,
  WARPHEAP_ERROR_WRITE_OUTSIDE = 6,
  WARPHEAP_ERROR_USE_AFTER_FREE = 7
};

typedef struct warpheap_error {
  int kind;         /* WARPHEAP_ERROR_... */
  uint64_t address; /* the pointer that was passed; of OUT_OF_MEMORY the bytes asked for */
} warpheap_error;

/* Takes up to `capacity` of the recent errors, the oldest first, and returns how many: 0 when none
 * is left; 0 with EINVAL for a list of NULL, EIO when a kernel has failed. */
size_t warpheap_take_errors(warpheap_heap* heap, warpheap_error* list, size_t capacity);

/* ---- Kernels. ---- */

/* The heap as kernels see it: the bytes of a warpheap::heap_view (warpheap/heap_view.hpp), for code
 * in CUDA C++, which makes a warpheap::device_heap of it:
 *
 *   extern "C" void run(const warpheap_device* device) {
 *     warpheap::heap_view view;
 *     memcpy((void*)&view, device, sizeof view);
 *     warpheap::launch(grid, block, kernel, warpheap::device_heap(view)); ...
 *
 * Valid as long as the heap; copies are as good as the original. */
typedef struct warpheap_device {
  uint64_t words[32];
} warpheap_device;

/* 0, or -1 with EINVAL for a NULL, ENOTSUP in a build that has no kernels. */
int warpheap_get_device(const warpheap_heap* heap, warpheap_device* device);

/* What an event says has happened, as warpheap::device_op. */
enum {
  WARPHEAP_OP_MALLOC = 0, /* an object was made */
  WARPHEAP_OP_FREE = 1,   /* a pointer is about to be freed: an object's, or a wrong one */
  WARPHEAP_OP_RESIZE = 2, /* realloc left the object where it was; it has so many bytes now */
  WARPHEAP_OP_FAILURE = 3 /* so many bytes could not be had */
};

/* One call of a lane of a kernel that is observed (warpheap/device_heap.cuh). */
typedef struct warpheap_device_event {
  uint64_t address;
  uint64_t bytes;    /* asked for; 0 for a free */
  uint64_t clock_ns; /* of the clock that all warps share */
  uint32_t warp;     /* number of the warp in its launch */
  uint8_t op;        /* WARPHEAP_OP_... */
  uint8_t size_class;
  uint8_t log2_alignment;
  uint8_t unused;
} warpheap_device_event;

/* Takes up to `capacity` events of kernels, in an order in which they could have come one by one,
 * and returns how many: 0 when none is left, and in a heap without
 * warpheap_options::device_events. *lost, unless NULL, is set to the number of events since the
 * last call for which there was no room in the heap. 0 with EINVAL for a list of NULL, EIO when a
 * kernel has failed. */
size_t warpheap_take_device_events(warpheap_heap* heap, warpheap_device_event* list,
                                   size_t capacity, uint64_t* lost);

/* ---- The heap's profile: with warpheap_options::profile_rate. ---- */

/* Writes what was sampled so far: folded stacks if the name ends in ".folded", else for pprof. 0,
 * or -1 with EINVAL for a name of NULL, ENOTSUP in a heap without a profile, and errno of the
 * system for a file that cannot be written. */
int warpheap_write_profile(const warpheap_heap* heap, const char* file);

/* ---- All objects together. ---- */

/* Waits for kernels and applies all frees under way. 0, or -1 with EIO when a kernel has failed. */
int warpheap_synchronize(warpheap_heap* heap);
/* Gives what is unused back to the system. Returns the bytes; 0 with errno set when that failed. */
size_t warpheap_trim(warpheap_heap* heap);
/* Bytes of memory that the heap may have from now on, as warpheap_options::memory_limit; 0: no
 * limit. 0, or -1. */
int warpheap_set_memory_limit(warpheap_heap* heap, size_t bytes);
/* Frees every object of both sides at once. 0, or -1 with EIO when a kernel has failed. */
int warpheap_reset(warpheap_heap* heap);

/* What became of a mark, as warpheap::mark_status. */
enum {
  WARPHEAP_MARKED = 0,
  WARPHEAP_MARK_AGAIN = 1,
  WARPHEAP_MARK_DANGLING = 2, /* no live object starts there */
  WARPHEAP_MARK_DEVICE = 3,   /* in pages lent to kernels: for warpheap_sweep_device */
  WARPHEAP_MARK_FOREIGN = 4   /* not an address of this heap */
};

/* Marks a host object, so that it outlives the next sweep. WARPHEAP_MARK..., or -1 with ENOTSUP in
 * a heap with a profile or debug modes, ENOMEM when there is no room for marks: then the next sweep
 * frees nothing. */
int warpheap_mark(warpheap_heap* heap, const void* p);

/* Marks the object at p and all that can be reached from it through objects of malloc_pointers;
 * nothing may write to these meanwhile. Answers as mark does. */
int warpheap_mark_reachable(warpheap_heap* heap, const void* p);

typedef struct warpheap_leak {
  void* address;
  size_t bytes;        /* that could be used at it */
  unsigned size_class; /* 0: large; WARPHEAP_CLASSES: below 16 bytes, in a shared block */
} warpheap_leak;

/* What a sweep found. The caller says where the first leaks and dangling pointers are to be listed,
 * if at all; at most the first 1000 dangling pointers are known. */
typedef struct warpheap_sweep_report {
  size_t struct_size;   /* sizeof(warpheap_sweep_report), set by the caller */
  warpheap_leak* leaks; /* of `leaks_capacity`; NULL with a capacity of 0: no list */
  size_t leaks_capacity;
  void** dangling_pointers; /* likewise */
  size_t dangling_capacity;

  size_t leaks_listed; /* from here on set by warpheap_sweep */
  size_t dangling_listed;
  uint64_t kept_objects, kept_bytes;     /* marked and new objects, which live on */
  uint64_t leaked_objects, leaked_bytes; /* unmarked ones, which have been freed */
  uint64_t dangling;                     /* marks on what did not live */
  struct {
    uint64_t objects, bytes;
  } leaked_by_class[WARPHEAP_CLASSES + 1]; /* index: warpheap_leak::size_class */
} warpheap_sweep_report;

/* Frees every host object without a mark, takes all marks off, and says in *report what it found;
 * a report of NULL: says nothing. What was made after the first mark lives on without one, as do
 * objects of kernels. 0, or -1 with nothing freed: EINVAL for
 * a struct_size that no version had or a list of NULL with a capacity, ENOTSUP in a heap with a
 * profile or debug modes, EIO when a kernel has failed, EAGAIN when there was no memory for a mark:
 * marks stay, and it may be tried again. -1 with ENOMEM: no memory for the report of what may have
 * been swept. */
int warpheap_sweep(warpheap_heap* heap, warpheap_sweep_report* report);

/* The same two for objects of kernels: from the first on device_heap::mark and warpheap_mark mark
 * these; the second frees those without a mark, also what kernels have made meanwhile. As
 * warpheap_sweep otherwise; both -1 with EIO also when there is no memory for marks. */
int warpheap_begin_device_marks(warpheap_heap* heap);
int warpheap_sweep_device(warpheap_heap* heap, warpheap_sweep_report* report);

/* ---- Backend. ---- */

/* WARPHEAP_BACKEND_CUDA or _SIMT; -1 for a heap of NULL. */
int warpheap_backend(const warpheap_heap* heap);
/* "cuda" or "simt"; why it was chosen; the GPU or CPU that runs kernels. Valid as long as the heap.
 */
const char* warpheap_backend_name(const warpheap_heap* heap);
const char* warpheap_backend_reason(const warpheap_heap* heap);
const char* warpheap_device_name(const warpheap_heap* heap);
/* The thread that gives kernels pages: without it they get NULL instead of more. 0, or -1. */
int warpheap_stop_refill_service(warpheap_heap* heap);
int warpheap_start_refill_service(warpheap_heap* heap);

/* What the last failed call of this thread could not do, for people; "" when none has failed. Valid
 * until the next call of this thread that fails. */
const char* warpheap_last_error(void);

#ifdef __cplusplus
}
#endif

#endif

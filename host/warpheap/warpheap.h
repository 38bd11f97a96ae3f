/* The heap for C. Compiles as C99 and as C++.
 *
 *   warpheap_heap* heap = warpheap_create(NULL);
 *   char* text = warpheap_malloc(heap, 100);
 *   warpheap_free(heap, text);
 *   warpheap_destroy(heap);
 *
 * A call that fails returns NULL, -1 or 0, as its comment says; errno is then set, and
 * warpheap_last_error() returns a message. Except for the destroy calls, every call fails with
 * EINVAL if its heap or region is NULL; every call may fail with ENOMEM for want of memory of its
 * own. No C++ exception leaves these functions.
 *
 * Thread-safety is that of warpheap::heap, listed in its comment in warpheap/heap.hpp. At any time,
 * by any thread: the calls on objects and on scratch stacks, mark, mark_reachable, get_device,
 * get_memory, memory_text, memory_json, set_memory_limit, write_profile, and the backend queries.
 * One at a time: stop_refill_service, start_refill_service. All other calls need the heap at rest:
 * no other call and no kernel may use it meanwhile, except that several threads may be in
 * synchronize at the same time.
 *
 * Each struct begins with its size, which the caller sets, so that a program compiled with an
 * older, shorter version of the struct still works. A text returned as char* belongs to the caller
 * and is released with free(). If it is NULL, errno says why: ENOMEM, or EIO when a kernel has
 * failed. */
#ifndef WARPHEAP_WARPHEAP_H
#define WARPHEAP_WARPHEAP_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <warpheap/version.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct warpheap_heap warpheap_heap;

/* WARPHEAP_VERSION of the library that is linked. */
int warpheap_version(void);

enum {
  WARPHEAP_BACKEND_AUTOMATIC = 0, /* CUDA where a device can be used, otherwise the CPU */
  WARPHEAP_BACKEND_CUDA = 1,
  WARPHEAP_BACKEND_SIMT = 2 /* the CPU */
};

/* Options of a heap; warpheap_options_init fills in the defaults. Each comment gives the unit and
 * the default; warpheap/options.hpp explains the members of the same names. The environment
 * variable WARPHEAP overrides the options that it names. */
typedef struct warpheap_options {
  size_t struct_size;         /* sizeof(warpheap_options), set by warpheap_options_init */
  size_t reserve_bytes;       /* bytes; 1 GiB */
  size_t initial_stock_bytes; /* bytes; 4 MiB */
  uint64_t refill_timeout_ns; /* nanoseconds; 0: the backend's default */
  int backend;                /* WARPHEAP_BACKEND_...; AUTOMATIC */
  int refill_service;         /* 0 or 1; 1 */
  int report_leaks;           /* 0 or 1; 1 */
  /* Called with one line for each report; with NULL, the default, the line goes to standard error.
   * It may be called on any thread that uses the heap, and must return. */
  void (*on_report)(void* context, const char* line);
  void* report_context;         /* passed to on_report; NULL */
  size_t memory_limit;          /* bytes; 0: no limit */
  int scavenge;                 /* 0 or 1; 1 */
  size_t device_events;         /* events; 0 */
  const char* print_state_file; /* names of files, which are copied; NULL: none */
  const char* profile_file;
  const char* trace_file;
  size_t profile_rate;     /* bytes between samples; 0: no profile */
  size_t quarantine_bytes; /* bytes; 0 */
  /* 0 or 1; 0 */
  int annotate, red_zones, clobber_free, efence, sbrk;
  size_t least_reserve_bytes; /* bytes; 0, as options.hpp explains */
} warpheap_options;

void warpheap_options_init(warpheap_options* options);

/* A new heap; NULL options mean the defaults. NULL with EINVAL for invalid options, ENODEV for a
 * backend that cannot be used, ENOMEM when there is not enough memory, and the system's errno for a
 * trace file that cannot be written. */
warpheap_heap* warpheap_create(const warpheap_options* options);
/* Releases all memory of the heap, including that of live objects. NULL is ignored. */
void warpheap_destroy(warpheap_heap* heap);

/* Like the C functions of these names, on this heap. NULL with ENOMEM when there is no memory or
 * the size overflows. malloc(0) always returns the same address: no byte there may be used, and it
 * may be freed any number of times.
 *
 * Alignment: 16, with two exceptions. An object of 17..24 bytes is aligned to 8. One of 1..15 bytes
 * is aligned to the largest power of two that divides its size: malloc(12) to 4, malloc(9) to 1;
 * but an object that may hold pointers is aligned to 8 if it has 1..8 bytes and to 16 if it has
 * 9..15. An object that realloc leaves in place keeps its alignment. */
void* warpheap_malloc(warpheap_heap* heap, size_t size);
void* warpheap_calloc(warpheap_heap* heap, size_t count, size_t size);
/* NULL with EINVAL for an alignment that is not a power of two. The size need not be a multiple of
 * the alignment. */
void* warpheap_aligned_alloc(warpheap_heap* heap, size_t alignment, size_t size);
/* For objects that may hold pointers to other objects, which mark_reachable follows. The calls
 * above are for objects without pointers. realloc preserves the kind. */
void* warpheap_malloc_pointers(warpheap_heap* heap, size_t size);
void* warpheap_calloc_pointers(warpheap_heap* heap, size_t count, size_t size);
void* warpheap_aligned_alloc_pointers(warpheap_heap* heap, size_t alignment, size_t size);
/* If p is NULL, the same as malloc. Size 0 frees p and returns what malloc(0) returns. NULL with
 * EINVAL when no live host object begins at p. On failure the object is unchanged. */
void* warpheap_realloc(warpheap_heap* heap, void* p, size_t size);
/* Frees an object of the host or of a kernel. NULL is ignored. A wrong pointer is counted and
 * reported, and otherwise has no effect. errno is preserved. */
void warpheap_free(warpheap_heap* heap, void* p);
/* Usable bytes at p, at least as many as were requested; 0 when no live host object begins
 * there. */
size_t warpheap_usable_size(const warpheap_heap* heap, const void* p);

/* ---- Scratch stacks: memory for coroutines, signal handlers, the buffers of a call. ---- */

/* A stack of `bytes` rounded up to a power of two, at least 2 KiB. `alignment` is a power of two up
 * to 8 KiB. Contents are indeterminate. A stack is not an object: free refuses it, reset leaves it
 * alone, and it must be released before the heap is destroyed. NULL with EINVAL for any other
 * alignment, ENOMEM when there is no room. */
void* warpheap_acquire_stack(warpheap_heap* heap, size_t bytes, size_t alignment);
/* `bytes` and `alignment` must be those passed to acquire_stack. Any thread may release a stack.
 * NULL is ignored. Sets errno to EINVAL for an alignment or size that no stack has. Aborts when
 * there is no such stack at p. */
void warpheap_release_stack(warpheap_heap* heap, void* p, size_t bytes, size_t alignment);
/* Size in bytes of the stack that acquire_stack returns; 0 with EINVAL if no stack has this size or
 * alignment. */
size_t warpheap_stack_size(size_t bytes, size_t alignment);

/* ---- Regions: objects that are freed together. ---- */

/* A region may be used by one thread at a time. warpheap/region.hpp describes how a region that has
 * ended is protected from further use. */
typedef struct warpheap_region warpheap_region;

/* A region takes chunks from the heap, which must outlive it. The first chunk has
 * first_chunk_bytes, and each further one is twice as large, up to largest_chunk_bytes; 0 selects
 * the defaults, 64 KiB and 8 MiB. NULL with ENOMEM when there is no memory for the region's
 * record. */
warpheap_region* warpheap_region_create(warpheap_heap* heap, size_t first_chunk_bytes,
                                        size_t largest_chunk_bytes);
/* Frees the region and everything in it. NULL is ignored. */
void warpheap_region_destroy(warpheap_region* region);
/* The contents are indeterminate. NULL with EINVAL for an alignment that is not a power of two up
 * to 8 KiB, ENOMEM when there is no room. */
void* warpheap_region_malloc(warpheap_region* region, size_t bytes, size_t alignment);
/* Frees everything at once. The region can be used again. */
void warpheap_region_clear(warpheap_region* region);
/* Bytes handed out since the last clear, including the padding for alignment; total bytes of the
 * chunks. */
size_t warpheap_region_used_bytes(const warpheap_region* region);
size_t warpheap_region_chunk_bytes(const warpheap_region* region);

/* ---- Figures. ---- */

/* Figures of host and kernels, counted at the time of the call. In bytes unless the name says
 * otherwise. */
typedef struct warpheap_stats {
  size_t struct_size;         /* sizeof(warpheap_stats), set by the caller */
  uint64_t reserve_bytes;     /* address space of the heap */
  uint64_t bytes_in_use;      /* live bytes, host and kernels */
  uint64_t page_bytes;        /* pages in spans and large objects */
  uint64_t peak_bytes;        /* most pages ever in use at once */
  uint64_t host_live_objects; /* objects of the host that are not freed */
  uint64_t host_live_bytes;
  uint64_t host_mallocs; /* objects of the host ever allocated */
  uint64_t host_frees;
  uint64_t device_live_objects; /* objects of kernels that are not freed */
  uint64_t device_live_bytes;
  uint64_t out_of_memory; /* allocations that found no memory */
  uint64_t wrong_frees;   /* all other errors of both sides: the rest of errors[], summed */
  /* From here on, as the members of warpheap::heap_stats with these names. The device's figures by
   * size class, and latencies, are in warpheap_stats_json. */
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

/* Counts everything into *stats, or into as much of it as struct_size covers. 0, or -1: EINVAL for
 * a NULL pointer or a struct_size that was not set, EIO when a kernel has failed. */
int warpheap_get_stats(warpheap_heap* heap, warpheap_stats* stats);
/* All figures of warpheap::heap_stats, as text for people and as JSON (see warpheap/heap.hpp). */
char* warpheap_stats_text(warpheap_heap* heap);
char* warpheap_stats_json(warpheap_heap* heap);

enum { WARPHEAP_CLASSES = 68, WARPHEAP_RESETS_KEPT = 256 };

/* Where the host's memory is and what it has been used for. warpheap/memory_stats.hpp explains the
 * members of the same names, and which of them add up. In bytes, except for counts of objects,
 * events and threads. */
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
  /* Of the last 256 resets; the last one is at (resets + 255) % 256. */
  uint64_t reset_duration_ns[WARPHEAP_RESETS_KEPT];
  uint64_t reset_end_unix_ns[WARPHEAP_RESETS_KEPT];
} warpheap_memory;

/* 0, or -1 with EINVAL for a NULL pointer or a struct_size that was not set. */
int warpheap_get_memory(const warpheap_heap* heap, warpheap_memory* memory);
char* warpheap_memory_text(const warpheap_heap* heap);
char* warpheap_memory_json(const warpheap_heap* heap);

/* The whole heap as text for people; print_state writes it to a file and returns 0, or -1: EINVAL
 * if the file is NULL, EIO when it cannot be written or a kernel has failed. */
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
  uint64_t address; /* the pointer that was passed; for OUT_OF_MEMORY the bytes requested */
} warpheap_error;

/* Takes up to `capacity` of the recent errors, oldest first, and returns their number: 0 when none
 * is left; 0 with EINVAL if the list is NULL, EIO when a kernel has failed. */
size_t warpheap_take_errors(warpheap_heap* heap, warpheap_error* list, size_t capacity);

/* ---- Kernels. ---- */

/* The heap as kernels see it: the bytes of a warpheap::heap_view (warpheap/heap_view.hpp). CUDA C++
 * code makes a warpheap::device_heap from it:
 *
 *   extern "C" void run(const warpheap_device* device) {
 *     warpheap::heap_view view;
 *     memcpy((void*)&view, device, sizeof view);
 *     warpheap::launch(grid, block, kernel, warpheap::device_heap(view)); ...
 *
 * It is valid for the heap's lifetime, and may be copied. */
typedef struct warpheap_device {
  uint64_t words[32];
} warpheap_device;

/* 0, or -1: EINVAL for a NULL pointer, ENOTSUP in a build without kernels. */
int warpheap_get_device(const warpheap_heap* heap, warpheap_device* device);

/* What happened in an event, as warpheap::device_op. */
enum {
  WARPHEAP_OP_MALLOC = 0, /* an object was made */
  WARPHEAP_OP_FREE = 1,   /* a pointer is about to be freed: an object's, or a wrong one */
  WARPHEAP_OP_RESIZE = 2, /* realloc left the object where it was; `bytes` is its new size */
  WARPHEAP_OP_FAILURE = 3 /* there was no memory for `bytes` bytes */
};

/* One call of one lane of an observed kernel (warpheap/device_heap.cuh). */
typedef struct warpheap_device_event {
  uint64_t address;
  uint64_t bytes;    /* requested; 0 for a free */
  uint64_t clock_ns; /* nanoseconds, on the clock that all warps share */
  uint32_t warp;     /* number of the warp in its launch */
  uint8_t op;        /* WARPHEAP_OP_... */
  uint8_t size_class;
  uint8_t log2_alignment;
  uint8_t unused;
} warpheap_device_event;

/* Takes up to `capacity` events of kernels, in a possible sequential order, and returns their
 * number: 0 when none is left, and in a heap without warpheap_options::device_events. If `lost` is
 * not NULL, *lost is set to the number of events since the last call for which there was no room. 0
 * with EINVAL if the list is NULL, EIO when a kernel has failed. */
size_t warpheap_take_device_events(warpheap_heap* heap, warpheap_device_event* list,
                                   size_t capacity, uint64_t* lost);

/* ---- The heap's profile: needs warpheap_options::profile_rate. ---- */

/* Writes the samples so far: as folded stacks if the name ends in ".folded", otherwise in the
 * format of pprof. 0, or -1: EINVAL if the name is NULL, ENOTSUP in a heap without a profile, the
 * system's errno for a file that cannot be written. */
int warpheap_write_profile(const warpheap_heap* heap, const char* file);

/* ---- All objects together. ---- */

/* Waits for kernels, and applies all frees in transit between the two sides. 0, or -1 with EIO when
 * a kernel has failed. */
int warpheap_synchronize(warpheap_heap* heap);
/* Gives unused memory back to the system. Returns the number of bytes; 0 with errno set on
 * failure. */
size_t warpheap_trim(warpheap_heap* heap);
/* Sets warpheap_options::memory_limit; 0: no limit. Returns 0, or -1. */
int warpheap_set_memory_limit(warpheap_heap* heap, size_t bytes);
/* Frees every object of both sides at once. 0, or -1 with EIO when a kernel has failed. */
int warpheap_reset(warpheap_heap* heap);

/* The result of a mark, as warpheap::mark_status. */
enum {
  WARPHEAP_MARKED = 0,
  WARPHEAP_MARK_AGAIN = 1,
  WARPHEAP_MARK_DANGLING = 2, /* no live object starts there */
  WARPHEAP_MARK_DEVICE = 3,   /* in pages lent to kernels: for warpheap_sweep_device */
  WARPHEAP_MARK_FOREIGN = 4   /* not an address of this heap */
};

/* Marks an object so that it survives the next sweep. Returns WARPHEAP_MARK..., or -1: ENOTSUP in a
 * heap with a profile or debug modes, and for a heap on CUDA in the child of a fork; ENOMEM when
 * there is no room for marks, in which case the next sweep frees nothing. */
int warpheap_mark(warpheap_heap* heap, const void* p);

/* Marks the object at p, and everything reachable from it through objects that may hold pointers.
 * Nothing may write to these objects meanwhile. Returns what mark returns. */
int warpheap_mark_reachable(warpheap_heap* heap, const void* p);

typedef struct warpheap_leak {
  void* address;
  size_t bytes;        /* usable bytes */
  unsigned size_class; /* 0: large; WARPHEAP_CLASSES: below 16 bytes, in a shared block */
} warpheap_leak;

/* What a sweep found. The caller may provide lists for the first leaks and dangling pointers. At
 * most the first 1000 dangling pointers are recorded. */
typedef struct warpheap_sweep_report {
  size_t struct_size;   /* sizeof(warpheap_sweep_report), set by the caller */
  warpheap_leak* leaks; /* of leaks_capacity elements; NULL with a capacity of 0: no list */
  size_t leaks_capacity;
  void** dangling_pointers; /* of dangling_capacity elements; NULL, capacity 0: no list */
  size_t dangling_capacity;

  size_t leaks_listed; /* from here on, set by the sweep */
  size_t dangling_listed;
  uint64_t kept_objects, kept_bytes;     /* marked and new objects, which live on */
  uint64_t leaked_objects, leaked_bytes; /* unmarked ones, which have been freed */
  uint64_t dangling;                     /* marks where no object lived */
  struct {
    uint64_t objects, bytes;
  } leaked_by_class[WARPHEAP_CLASSES + 1]; /* index: warpheap_leak::size_class */
} warpheap_sweep_report;

/* Frees every host object without a mark, removes all marks, and writes what it found to *report,
 * unless that is NULL. Objects made after the first mark survive without a mark, as do objects of
 * kernels. 0, or -1 with nothing freed: EINVAL for a struct_size that was not set or a NULL list
 * with a nonzero capacity, ENOTSUP as for warpheap_mark, EIO when a kernel has failed, EAGAIN when
 * there was no memory for a mark: the marks stay, and the call may be repeated. -1 with ENOMEM: no
 * memory for the report; objects may have been freed. */
int warpheap_sweep(warpheap_heap* heap, warpheap_sweep_report* report);

/* begin_device_marks prepares a sweep of kernels' objects: from then on device_heap::mark and
 * warpheap_mark mark them. sweep_device frees those without a mark, including those that kernels
 * have made meanwhile. Both return what warpheap_sweep returns, and fail with EIO also when there
 * is no memory for marks. */
int warpheap_begin_device_marks(warpheap_heap* heap);
int warpheap_sweep_device(warpheap_heap* heap, warpheap_sweep_report* report);

/* ---- Backend. ---- */

/* WARPHEAP_BACKEND_CUDA or _SIMT; -1 for a heap of NULL. */
int warpheap_backend(const warpheap_heap* heap);
/* "cuda" or "simt"; why it was chosen; the GPU or CPU that runs kernels. The texts are valid for
 * the heap's lifetime. */
const char* warpheap_backend_name(const warpheap_heap* heap);
const char* warpheap_backend_reason(const warpheap_heap* heap);
const char* warpheap_device_name(const warpheap_heap* heap);
/* Stop and start the thread that gives kernels pages. While it is stopped, a malloc in a kernel
 * that needs more pages returns NULL. 0, or -1. */
int warpheap_stop_refill_service(warpheap_heap* heap);
int warpheap_start_refill_service(warpheap_heap* heap);

/* A message about this thread's last call that failed; "" when none has failed. Valid until the
 * next failing call of this thread. */
const char* warpheap_last_error(void);

#ifdef __cplusplus
}
#endif

#endif

/* The heap for C. Compiles as C99 and as C++.
 *
 *   warpheap_heap* heap = warpheap_create(NULL);
 *   char* text = warpheap_malloc(heap, 100);
 *   warpheap_free(heap, text);
 *   warpheap_destroy(heap);
 *
 * What cannot be done is answered with NULL, -1 or 0, as said with each call; errno is set, and
 * warpheap_last_error() has a text. A heap of NULL is answered so with EINVAL by every call. No C++
 * exception leaves these functions.
 *
 * Thread-safety is that of warpheap::heap: the calls on objects may be made by any thread at any
 * time; synchronize, get_stats, trim, reset and destroy need that no other call and no kernel uses
 * the heap meanwhile. */
#ifndef WARPHEAP_WARPHEAP_H
#define WARPHEAP_WARPHEAP_H

#include <stddef.h>
#include <stdint.h>

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
} warpheap_options;

void warpheap_options_init(warpheap_options* options);

/* A new heap; options of NULL are the defaults. NULL with EINVAL for options that make no sense,
 * ENODEV for a backend that cannot be used, ENOMEM when there is not enough memory. */
warpheap_heap* warpheap_create(const warpheap_options* options);
/* Gives all memory of the heap back, that of live objects, too. NULL is ignored. */
void warpheap_destroy(warpheap_heap* heap);

/* As the C functions of these names, on this heap. NULL with ENOMEM when there is no memory or the
 * size overflows. malloc(0) gives one address, of which nothing may be used and which may be freed
 * any number of times. */
void* warpheap_malloc(warpheap_heap* heap, size_t size);
void* warpheap_calloc(warpheap_heap* heap, size_t count, size_t size);
/* NULL with EINVAL for an alignment that is no power of two. The size need not be a multiple. */
void* warpheap_aligned_alloc(warpheap_heap* heap, size_t alignment, size_t size);
/* p of NULL: malloc. Size 0 frees p and gives what malloc(0) gives. NULL with EINVAL for what is no
 * live object of the host. When it fails, the object is as it was. */
void* warpheap_realloc(warpheap_heap* heap, void* p, size_t size);
/* Frees an object of the host or of a kernel. NULL is ignored; a wrong pointer is counted and
 * reported, and changes nothing. errno stays as it is. */
void warpheap_free(warpheap_heap* heap, void* p);
/* Bytes that may be used at p, at least those asked for; 0 for what is no live object of the host.
 */
size_t warpheap_usable_size(const warpheap_heap* heap, const void* p);

/* Figures of a heap, in bytes unless the name says otherwise. */
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
  uint64_t wrong_frees;   /* double frees, foreign and interior pointers, of both sides */
} warpheap_stats;

/* Counts everything into *stats; of a shorter struct_size, what fits. 0, or -1 with EINVAL for a
 * NULL or a struct_size that no version had, EIO when a kernel has failed. */
int warpheap_get_stats(warpheap_heap* heap, warpheap_stats* stats);
/* Waits for kernels and applies all frees under way. 0, or -1 with EIO when a kernel has failed. */
int warpheap_synchronize(warpheap_heap* heap);
/* Gives what is unused back to the system. Returns the bytes; 0 with errno set when that failed. */
size_t warpheap_trim(warpheap_heap* heap);
/* Frees every object of both sides at once. 0, or -1 with EIO when a kernel has failed. */
int warpheap_reset(warpheap_heap* heap);

/* What the last failed call of this thread could not do, for people; "" when none has failed. Valid
 * until the next call of this thread that fails. */
const char* warpheap_last_error(void);

#ifdef __cplusplus
}
#endif

#endif

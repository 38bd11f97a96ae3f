/* The C API as a C99 program uses it. Each check returns the line that failed, 0 if none did; its
 * GoogleTest case is in c_api_test.cpp. */
#include "tests/c_api_checks.h"

#include <errno.h>
#include <string.h>
#include <warpheap/warpheap.h>

static void count_line(void* context, const char* line) {
  struct lines* lines = context;
  ++lines->count;
  strncpy(lines->last, line, sizeof lines->last - 1);
}

warpheap_options c_api_small_options(struct lines* lines) {
  warpheap_options options;
  warpheap_options_init(&options);
  options.reserve_bytes = (size_t)64 << 20;
  options.backend = WARPHEAP_BACKEND_SIMT;
  options.refill_service = 0;
  options.on_report = count_line;
  options.report_context = lines;
  return options;
}

warpheap_heap* c_api_small_heap(struct lines* lines) {
  const warpheap_options options = c_api_small_options(lines);
  return warpheap_create(&options);
}

int c_api_objects(void) {
  struct lines lines = {0, ""};
  warpheap_heap* heap = c_api_small_heap(&lines);
  warpheap_stats stats;
  char* p;
  char* q;
  size_t i;
  CHECK(heap != NULL);
  p = warpheap_malloc(heap, 100);
  CHECK(p != NULL && warpheap_usable_size(heap, p) >= 100);
  memset(p, 7, 100);
  q = warpheap_realloc(heap, p, 5000);
  CHECK(q != NULL && q[99] == 7 && warpheap_usable_size(heap, q) >= 5000);
  p = warpheap_realloc(heap, NULL, 10);
  CHECK(p != NULL);
  warpheap_free(heap, p);
  p = warpheap_calloc(heap, 1000, 7);
  CHECK(p != NULL);
  for (i = 0; i < 7000; ++i) CHECK(p[i] == 0);
  stats.struct_size = sizeof stats;
  CHECK(warpheap_get_stats(heap, &stats) == 0);
  CHECK(stats.host_live_objects == 2 && stats.host_mallocs == stats.host_frees + 2);
  CHECK(stats.bytes_in_use >= 12000 && stats.reserve_bytes == (size_t)64 << 20);
  CHECK(stats.page_bytes >= stats.bytes_in_use && stats.wrong_frees == 0);
  for (i = 1; i <= 65536; i *= 2) {
    void* aligned = warpheap_aligned_alloc(heap, i, 100);
    CHECK(aligned != NULL && (uintptr_t)aligned % i == 0);
    warpheap_free(heap, aligned);
  }
  warpheap_free(heap, p);
  warpheap_free(heap, q);
  CHECK(warpheap_trim(heap) > 0);
  CHECK(warpheap_malloc(heap, 50) != NULL);
  CHECK(warpheap_reset(heap) == 0);
  CHECK(warpheap_synchronize(heap) == 0);
  CHECK(warpheap_get_stats(heap, &stats) == 0 && stats.host_live_objects == 0);
  warpheap_destroy(heap);
  CHECK(lines.count == 0);
  return 0;
}

int c_api_zero_sizes(void) {
  struct lines lines = {0, ""};
  warpheap_heap* heap = c_api_small_heap(&lines);
  void* none;
  void* p;
  CHECK(heap != NULL);
  none = warpheap_malloc(heap, 0);
  CHECK(none != NULL && warpheap_usable_size(heap, none) == 0);
  CHECK(warpheap_calloc(heap, 0, 5) == none && warpheap_calloc(heap, 5, 0) == none);
  CHECK(warpheap_aligned_alloc(heap, 64, 0) != NULL);
  p = warpheap_malloc(heap, 30);
  CHECK(warpheap_realloc(heap, p, 0) == none);
  CHECK(warpheap_usable_size(heap, p) == 0);
  p = warpheap_realloc(heap, none, 30);
  CHECK(p != NULL && p != none);
  warpheap_free(heap, p);
  warpheap_free(heap, none);
  warpheap_free(heap, none);
  warpheap_free(heap, NULL);
  warpheap_destroy(heap);
  CHECK(lines.count == 0);
  return 0;
}

int c_api_errors(void) {
  struct lines lines = {0, ""};
  warpheap_heap* heap = c_api_small_heap(&lines);
  warpheap_stats stats;
  char* p;
  int local = 0;
  CHECK(heap != NULL);

  errno = 0;
  CHECK(warpheap_malloc(heap, (size_t)65 << 20) == NULL && errno == ENOMEM);
  CHECK(strlen(warpheap_last_error()) > 10);
  errno = 0;
  CHECK(warpheap_malloc(heap, SIZE_MAX) == NULL && errno == ENOMEM);
  errno = 0;
  CHECK(warpheap_calloc(heap, SIZE_MAX / 2, 3) == NULL && errno == ENOMEM);
  errno = 0;
  CHECK(warpheap_aligned_alloc(heap, 24, 100) == NULL && errno == EINVAL);
  CHECK(strstr(warpheap_last_error(), "alignment") != NULL);
  errno = 0;
  CHECK(warpheap_aligned_alloc(heap, 0, 100) == NULL && errno == EINVAL);
  errno = 0;
  CHECK(warpheap_aligned_alloc(heap, (size_t)1 << 63, 100) == NULL && errno == ENOMEM);
  CHECK_EINVAL(warpheap_aligned_alloc_pointers(heap, 24, 100) == NULL);

  CHECK(lines.count == 4 && strstr(lines.last, "cannot allocate 100-byte block") != NULL);

  p = warpheap_malloc(heap, 100);
  strcpy(p, "kept");
  errno = 0;
  CHECK(warpheap_realloc(heap, p, SIZE_MAX / 2) == NULL && errno == ENOMEM);
  CHECK(strcmp(p, "kept") == 0 && warpheap_usable_size(heap, p) >= 100);
  errno = 0;
  CHECK(warpheap_realloc(heap, p + 1, 200) == NULL && errno == EINVAL && lines.count == 6);
  errno = 0;
  CHECK(warpheap_realloc(heap, &local, 200) == NULL && errno == EINVAL && lines.count == 7);

  errno = EBADF;
  warpheap_free(heap, p + 8);
  CHECK(errno == EBADF && lines.count == 8 && strstr(lines.last, "middle") != NULL);
  warpheap_free(heap, p);
  CHECK(errno == EBADF && lines.count == 8);
  warpheap_free(heap, p);
  CHECK(errno == EBADF && lines.count == 9 && strstr(lines.last, "double free") != NULL);
  warpheap_free(heap, &local);
  CHECK(errno == EBADF && lines.count == 10 && strstr(lines.last, "outside") != NULL);
  CHECK(warpheap_usable_size(heap, &local) == 0 && warpheap_usable_size(heap, NULL) == 0);

  stats.struct_size = sizeof stats;
  CHECK(warpheap_get_stats(heap, &stats) == 0);
  CHECK(stats.wrong_frees == 5 && stats.out_of_memory >= 3);
  errno = 0;
  CHECK(warpheap_get_stats(heap, NULL) == -1 && errno == EINVAL);
  stats.struct_size = 1;
  CHECK(warpheap_get_stats(heap, &stats) == -1 && errno == EINVAL);
  /* A program that was compiled with the first two figures only gets these and no byte more. */
  memset(&stats, 0x55, sizeof stats);
  stats.struct_size = offsetof(warpheap_stats, bytes_in_use);
  CHECK(warpheap_get_stats(heap, &stats) == 0);
  CHECK(stats.reserve_bytes == (size_t)64 << 20);
  CHECK(stats.bytes_in_use == UINT64_C(0x5555555555555555));
  warpheap_destroy(heap);
  return 0;
}

int c_api_no_heap(void) {
  warpheap_stats stats;
  int local = 0;
  stats.struct_size = sizeof stats;
  CHECK_EINVAL(warpheap_malloc(NULL, 1) == NULL);
  CHECK_EINVAL(warpheap_malloc_pointers(NULL, 1) == NULL);
  CHECK_EINVAL(warpheap_calloc(NULL, 1, 1) == NULL);
  CHECK_EINVAL(warpheap_calloc_pointers(NULL, 1, 1) == NULL);
  CHECK_EINVAL(warpheap_aligned_alloc(NULL, 8, 1) == NULL);
  CHECK_EINVAL(warpheap_aligned_alloc_pointers(NULL, 8, 1) == NULL);
  CHECK_EINVAL(warpheap_realloc(NULL, NULL, 1) == NULL);
  CHECK_EINVAL((warpheap_free(NULL, &local), 1));
  CHECK_EINVAL(warpheap_usable_size(NULL, &local) == 0);
  CHECK_EINVAL(warpheap_get_stats(NULL, &stats) == -1);
  CHECK_EINVAL(warpheap_synchronize(NULL) == -1);
  CHECK_EINVAL(warpheap_trim(NULL) == 0);
  CHECK_EINVAL(warpheap_reset(NULL) == -1);
  warpheap_destroy(NULL);
  warpheap_options_init(NULL);
  return 0;
}

int c_api_options(void) {
  warpheap_options options;
  warpheap_heap* heap;
  CHECK(warpheap_version() == WARPHEAP_VERSION);
  warpheap_options_init(&options);
  CHECK(options.struct_size == sizeof options && options.reserve_bytes == (size_t)1 << 30);
  options.backend = WARPHEAP_BACKEND_SIMT;

  options.reserve_bytes = 4096;
  CHECK_EINVAL(warpheap_create(&options) == NULL);
  CHECK(strstr(warpheap_last_error(), "least") != NULL);
  options.reserve_bytes = SIZE_MAX;
  CHECK_EINVAL(warpheap_create(&options) == NULL);
  options.reserve_bytes = (size_t)64 << 20;
  options.backend = 77;
  CHECK_EINVAL(warpheap_create(&options) == NULL);
  CHECK(strstr(warpheap_last_error(), "backend") != NULL);
  options.backend = WARPHEAP_BACKEND_SIMT;
  options.struct_size = 0;
  CHECK_EINVAL(warpheap_create(&options) == NULL);
  /* A program that knows the first two members only gets defaults for the rest. */
  options.struct_size = offsetof(warpheap_options, initial_stock_bytes);
  options.backend = 77;
  heap = warpheap_create(&options);
  CHECK(heap != NULL);
  warpheap_destroy(heap);
  return 0;
}

int c_api_no_cuda(void) {
  warpheap_options options;
  warpheap_options_init(&options);
  options.backend = WARPHEAP_BACKEND_CUDA;
  errno = 0;
  CHECK(warpheap_create(&options) == NULL && errno == ENODEV);
  CHECK(strlen(warpheap_last_error()) > 5);
  return 0;
}

/* What a C99 program is told of a heap. `folder` ends in "/" and may be written to. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <warpheap/warpheap.h>

#include "tests/c_api_checks.h"

/* Has the text this in it? The text goes. */
static int found(char* text, const char* what) {
  const int is_there = text != NULL && strstr(text, what) != NULL;
  free(text);
  return is_there;
}

/* The first bytes of a file; how many, or -1. */
static int file_start(const char* folder, const char* name, char* bytes, size_t size) {
  char path[600];
  FILE* file;
  size_t n;
  snprintf(path, sizeof path, "%s%s", folder, name);
  file = fopen(path, "rb");
  if (file == NULL) return -1;
  n = fread(bytes, 1, size - 1, file);
  bytes[n] = '\0';
  fclose(file);
  return (int)n;
}

/* A heap that writes a file of this name in the folder when it goes; `option` is the member of the
 * options that says which. The name in the options is gone after this. */
static warpheap_heap* heap_that_writes(const char** option, const warpheap_options* options,
                                       const char* folder, const char* name) {
  char path[600];
  warpheap_heap* heap;
  snprintf(path, sizeof path, "%s%s", folder, name);
  *option = path;
  heap = warpheap_create(options);
  path[0] = '!'; /* the name was copied */
  *option = NULL;
  return heap;
}

int c_api_stats(void) {
  struct lines lines = {0, ""};
  warpheap_heap* heap = c_api_small_heap(&lines);
  warpheap_stats stats;
  char* p;
  CHECK(heap != NULL);
  p = warpheap_malloc(heap, 1000);
  CHECK(p != NULL);
  warpheap_free(heap, p + 8);
  warpheap_free(heap, p);
  warpheap_free(heap, p);
  p = warpheap_malloc(heap, 1000);
  CHECK(warpheap_malloc(heap, (size_t)65 << 20) == NULL);
  stats.struct_size = sizeof stats;
  CHECK(warpheap_get_stats(heap, &stats) == 0 && stats.struct_size == sizeof stats);
  CHECK(stats.host_spans == 1 && stats.host_span_bytes == stats.page_bytes);
  CHECK(stats.host_span_bytes >= 8192 && stats.host_live_bytes == 1024);
  CHECK(stats.errors[WARPHEAP_ERROR_INTERIOR_POINTER] == 1);
  CHECK(stats.errors[WARPHEAP_ERROR_DOUBLE_FREE] == 1);
  CHECK(stats.errors[WARPHEAP_ERROR_OUT_OF_MEMORY] == 1 && stats.out_of_memory == 1);
  CHECK(stats.wrong_frees == 2);
  CHECK(stats.device_live_objects == 0 && stats.device_spans == 0 && stats.unreachable_words == 0);
  CHECK(stats.stock_bytes > 0 && stats.peak_bytes >= stats.stock_bytes + 8192);
  /* A program of the first version has the first figures only. */
  memset(&stats, 0x55, sizeof stats);
  stats.struct_size = offsetof(warpheap_stats, host_span_bytes);
  CHECK(warpheap_get_stats(heap, &stats) == 0 && stats.wrong_frees == 2);
  CHECK(stats.host_span_bytes == UINT64_C(0x5555555555555555));
  warpheap_free(heap, p);
  warpheap_destroy(heap);
  return 0;
}

int c_api_memory(void) {
  struct lines lines = {0, ""};
  warpheap_heap* heap = c_api_small_heap(&lines);
  warpheap_memory m;
  char* tiny;
  char* small;
  char* large;
  uint64_t mallocs = 0;
  int c;
  CHECK(heap != NULL);
  tiny = warpheap_malloc(heap, 5);
  small = warpheap_malloc(heap, 1000);
  large = warpheap_malloc(heap, 100000);
  m.struct_size = sizeof m;
  CHECK(warpheap_get_memory(heap, &m) == 0 && m.struct_size == sizeof m);
  CHECK(m.sys
        == m.heap_sys + m.device_sys + m.stacks_sys + m.regions_sys + m.mspan_sys + m.mcache_sys
               + m.tiny_mask_sys + m.buckhash_sys + m.page_table_sys + m.device_table_sys
               + m.other_sys);
  CHECK(m.heap_sys == m.heap_inuse + m.heap_idle && m.heap_released <= m.heap_idle);
  CHECK(m.heap_alloc <= m.heap_inuse && m.heap_alloc == 16 + 1024 + 13 * 8192);
  CHECK(m.reserved == (uint64_t)64 << 20 && m.memory_limit == 0);
  CHECK(m.device_sys > 0 && m.thread_caches == 1);
  CHECK(m.mallocs == 3 && m.frees == 0 && m.live_objects == 3 && m.tiny_mallocs == 1);
  CHECK(m.tiny_blocks == 1 && m.large_mallocs == 1 && m.large_alloc == 13 * 8192);
  CHECK(m.by_class[0].mallocs == 1 && m.by_class[WARPHEAP_CLASSES - 1].slot_bytes == 32768);
  for (c = 0; c < WARPHEAP_CLASSES; ++c) {
    mallocs += m.by_class[c].mallocs;
    CHECK(m.by_class[c].mallocs == (uint64_t)(c == 0 || m.by_class[c].slot_bytes == 1024));
  }
  CHECK(mallocs == 2 && m.resets == 0 && m.scavenged_asked == 0);

  warpheap_free(heap, tiny);
  warpheap_free(heap, small);
  warpheap_free(heap, large);
  CHECK(warpheap_trim(heap) > 0);
  CHECK(warpheap_reset(heap) == 0);
  CHECK(warpheap_get_memory(heap, &m) == 0);
  CHECK(m.frees == 3 && m.live_objects == 0 && m.heap_alloc == 0 && m.scavenged_asked > 0);
  CHECK(m.resets == 1 && m.reset_duration_ns[0] == m.resets_total_ns);
  CHECK(m.reset_end_unix_ns[0] > UINT64_C(1600000000000000000) && m.reset_end_unix_ns[1] == 0);
  /* A shorter version. */
  memset(&m, 0x55, sizeof m);
  m.struct_size = offsetof(warpheap_memory, heap_inuse);
  CHECK(warpheap_get_memory(heap, &m) == 0 && m.heap_sys > 0);
  CHECK(m.heap_inuse == UINT64_C(0x5555555555555555));
  warpheap_destroy(heap);
  CHECK(lines.count == 0);
  return 0;
}

int c_api_memory_limit(void) {
  struct lines lines = {0, ""};
  warpheap_options options = c_api_small_options(&lines);
  const size_t records = (size_t)4 << 20; /* more than those of so small a heap */
  warpheap_heap* heap;
  warpheap_memory m;
  void* p;
  options.memory_limit = (size_t)32 << 20;
  heap = warpheap_create(&options);
  CHECK(heap != NULL);
  m.struct_size = sizeof m;
  CHECK(warpheap_get_memory(heap, &m) == 0 && m.memory_limit == (uint64_t)32 << 20);
  CHECK_ERRNO(ENOMEM, warpheap_malloc(heap, (size_t)32 << 20) == NULL);
  CHECK(warpheap_set_memory_limit(heap, 0) == 0);
  p = warpheap_malloc(heap, (size_t)32 << 20);
  CHECK(p != NULL && warpheap_get_memory(heap, &m) == 0 && m.memory_limit == 0);
  CHECK(warpheap_set_memory_limit(heap, ((size_t)32 << 20) + records) == 0);
  CHECK_ERRNO(ENOMEM, warpheap_malloc(heap, (size_t)8 << 20) == NULL);
  /* Free pages give their memory back before the limit is exceeded. */
  warpheap_free(heap, p);
  p = warpheap_malloc(heap, (size_t)8 << 20);
  CHECK(p != NULL);
  warpheap_free(heap, p);
  CHECK_EINVAL(warpheap_set_memory_limit(NULL, 0) == -1);
  warpheap_destroy(heap);
  return 0;
}

int c_api_texts(const char* folder) {
  struct lines lines = {0, ""};
  warpheap_options options = c_api_small_options(&lines);
  warpheap_heap* heap = heap_that_writes(&options.print_state_file, &options, folder, "state");
  char path[600];
  char start[200];
  FILE* file;
  CHECK(heap != NULL && warpheap_malloc(heap, 1000) != NULL);
  CHECK(found(warpheap_stats_text(heap), "1"));
  CHECK(found(warpheap_stats_json(heap), "{\"schema\":"));
  CHECK(found(warpheap_stats_json(heap), "\"classes\""));
  CHECK(found(warpheap_memory_text(heap), "heap_inuse"));
  CHECK(found(warpheap_memory_json(heap), "{\"schema\":1"));
  CHECK(found(warpheap_memory_json(heap), "\"live_objects\":1"));
  CHECK(found(warpheap_state_text(heap), "heap_inuse"));
  snprintf(path, sizeof path, "%sprinted", folder);
  file = fopen(path, "wb");
  CHECK(file != NULL);
  CHECK(warpheap_print_state(heap, file) == 0);
  fclose(file);
  CHECK(file_start(folder, "printed", start, sizeof start) == (int)sizeof start - 1);
  file = fopen("/dev/full", "wb");
  CHECK(file != NULL);
  CHECK_ERRNO(EIO, warpheap_print_state(heap, file) == -1);
  fclose(file);
  CHECK_EINVAL(warpheap_print_state(heap, NULL) == -1);
  warpheap_destroy(heap);
  CHECK(file_start(folder, "state", start, sizeof start) == (int)sizeof start - 1);
  CHECK(lines.count == 1); /* the leak */
  return 0;
}

int c_api_taken_errors(void) {
  struct lines lines = {0, ""};
  warpheap_heap* heap = c_api_small_heap(&lines);
  warpheap_error errors[3];
  int local = 0;
  char* p;
  CHECK(heap != NULL);
  CHECK(warpheap_take_errors(heap, errors, 3) == 0);
  p = warpheap_malloc(heap, 100);
  warpheap_free(heap, &local);
  warpheap_free(heap, p + 8);
  warpheap_free(heap, p);
  warpheap_free(heap, p);
  CHECK(warpheap_malloc(heap, SIZE_MAX) == NULL);
  CHECK(warpheap_take_errors(heap, errors, 0) == 0);
  CHECK(warpheap_take_errors(heap, errors, 3) == 3);
  CHECK(errors[0].kind == WARPHEAP_ERROR_FOREIGN_POINTER);
  CHECK(errors[0].address == (uintptr_t)&local);
  CHECK(errors[1].kind == WARPHEAP_ERROR_INTERIOR_POINTER);
  CHECK(errors[1].address == (uintptr_t)(p + 8));
  CHECK(errors[2].kind == WARPHEAP_ERROR_DOUBLE_FREE && errors[2].address == (uintptr_t)p);
  CHECK(warpheap_take_errors(heap, errors, 3) == 1);
  CHECK(errors[0].kind == WARPHEAP_ERROR_OUT_OF_MEMORY && errors[0].address == SIZE_MAX);
  errno = 0;
  CHECK(warpheap_take_errors(heap, errors, 3) == 0 && errno == 0);
  CHECK_EINVAL(warpheap_take_errors(heap, NULL, 3) == 0);
  CHECK_EINVAL(warpheap_take_errors(NULL, errors, 3) == 0);
  warpheap_destroy(heap);
  return 0;
}

int c_api_profile(const char* folder) {
  struct lines lines = {0, ""};
  warpheap_options options = c_api_small_options(&lines);
  warpheap_heap* heap;
  char start[4096];
  char path[600];
  char* end;
  void* p;
  options.profile_rate = 1;
  heap = heap_that_writes(&options.profile_file, &options, folder, "at_the_end.pb");
  CHECK(heap != NULL);
  p = warpheap_malloc(heap, 1000);
  CHECK(p != NULL);
  snprintf(path, sizeof path, "%snow.folded", folder);
  CHECK(warpheap_write_profile(heap, path) == 0);
  CHECK(file_start(folder, "now.folded", start, sizeof start) > 6);
  end = strchr(start, '\n');
  CHECK(end != NULL && memcmp(end - 5, " 1000", 5) == 0 && end[1] == '\0');
  snprintf(path, sizeof path, "%snow.pb", folder);
  CHECK(warpheap_write_profile(heap, path) == 0);
  CHECK(file_start(folder, "now.pb", start, sizeof start) > 20);
  snprintf(path, sizeof path, "%snowhere/now.pb", folder);
  CHECK_ERRNO(ENOENT, warpheap_write_profile(heap, path) == -1);
  CHECK_ERRNO(ENOSPC, warpheap_write_profile(heap, "/dev/full") == -1);
  CHECK_EINVAL(warpheap_write_profile(heap, NULL) == -1);
  CHECK_EINVAL(warpheap_write_profile(NULL, path) == -1);
  warpheap_free(heap, p);
  warpheap_destroy(heap);
  CHECK(file_start(folder, "at_the_end.pb", start, sizeof start) > 20);

  heap = c_api_small_heap(&lines);
  CHECK(heap != NULL);
  CHECK_ERRNO(ENOTSUP, warpheap_write_profile(heap, path) == -1);
  warpheap_destroy(heap);
  return 0;
}

int c_api_debug_modes(const char* folder) {
  struct lines lines = {0, ""};
  warpheap_options options = c_api_small_options(&lines);
  warpheap_heap* heap;
  char path[600];
  char start[200];
  unsigned char* p;
  unsigned char* q;
  options.red_zones = 1;
  options.clobber_free = 1;
  options.quarantine_bytes = (size_t)1 << 20;
  heap = heap_that_writes(&options.trace_file, &options, folder, "trace");
  CHECK(heap != NULL);
  p = warpheap_malloc(heap, 100);
  CHECK(p != NULL);
  p[100] = 1;
  warpheap_free(heap, p);
  CHECK(lines.count == 1 && strstr(lines.last, "outside of an object") != NULL);
  warpheap_destroy(heap);
  CHECK(file_start(folder, "trace", start, sizeof start) > 10 && start[0] == 'm');

  options = c_api_small_options(&lines);
  options.sbrk = 1;
  heap = warpheap_create(&options);
  CHECK(heap != NULL);
  p = warpheap_malloc(heap, 100);
  warpheap_free(heap, p);
  q = warpheap_malloc(heap, 100);
  CHECK(q > p);
  warpheap_destroy(heap);

  options = c_api_small_options(&lines);
  options.efence = 1;
  heap = warpheap_create(&options);
  CHECK(heap != NULL);
  p = warpheap_malloc(heap, 4096);
  CHECK(((uintptr_t)p + 4096) % 8192 == 0); /* ends where a page does */
  warpheap_free(heap, p);
  warpheap_destroy(heap);

  options = c_api_small_options(&lines);
  options.annotate = 1;
  heap = warpheap_create(&options);
  CHECK(heap != NULL);
  p = warpheap_malloc(heap, 100);
  CHECK(p != NULL && warpheap_usable_size(heap, p) == 100);
  warpheap_free(heap, p);
  warpheap_destroy(heap);

  options = c_api_small_options(&lines);
  snprintf(path, sizeof path, "%snowhere/trace", folder);
  options.trace_file = path;
  CHECK_ERRNO(ENOENT, warpheap_create(&options) == NULL);
  CHECK(strstr(warpheap_last_error(), "trace") != NULL);
  return 0;
}

int c_api_backend(void) {
  struct lines lines = {0, ""};
  warpheap_heap* heap = c_api_small_heap(&lines);
  const char* name;
  CHECK(heap != NULL);
  CHECK(warpheap_backend(heap) == WARPHEAP_BACKEND_SIMT);
  name = warpheap_backend_name(heap);
  CHECK(name != NULL && strcmp(name, "simt") == 0 && name == warpheap_backend_name(heap));
  CHECK(strlen(warpheap_backend_reason(heap)) > 5 && strlen(warpheap_device_name(heap)) > 2);
  CHECK(warpheap_start_refill_service(heap) == 0);
  CHECK(warpheap_stop_refill_service(heap) == 0);
  CHECK(warpheap_stop_refill_service(heap) == 0); /* is stopped */
  warpheap_destroy(heap);
  return 0;
}

int c_api_figures_bad_input(void) {
  struct lines lines = {0, ""};
  warpheap_heap* heap = c_api_small_heap(&lines);
  warpheap_memory memory;
  warpheap_device device;
  warpheap_device_event event;
  uint64_t lost = 7;
  CHECK(heap != NULL);
  CHECK_EINVAL(warpheap_get_memory(heap, NULL) == -1);
  memory.struct_size = 0;
  CHECK_EINVAL(warpheap_get_memory(heap, &memory) == -1);
  memory.struct_size = sizeof memory;
  CHECK_EINVAL(warpheap_get_memory(NULL, &memory) == -1);
  CHECK_EINVAL(warpheap_stats_text(NULL) == NULL);
  CHECK_EINVAL(warpheap_stats_json(NULL) == NULL);
  CHECK_EINVAL(warpheap_memory_text(NULL) == NULL);
  CHECK_EINVAL(warpheap_memory_json(NULL) == NULL);
  CHECK_EINVAL(warpheap_state_text(NULL) == NULL);
  CHECK_EINVAL(warpheap_print_state(NULL, stderr) == -1);
  CHECK_EINVAL(warpheap_backend(NULL) == -1);
  CHECK_EINVAL(warpheap_backend_name(NULL) == NULL);
  CHECK_EINVAL(warpheap_backend_reason(NULL) == NULL);
  CHECK_EINVAL(warpheap_device_name(NULL) == NULL);
  CHECK_EINVAL(warpheap_stop_refill_service(NULL) == -1);
  CHECK_EINVAL(warpheap_start_refill_service(NULL) == -1);
  CHECK_EINVAL(warpheap_get_device(NULL, &device) == -1);
  CHECK_EINVAL(warpheap_get_device(heap, NULL) == -1);
  CHECK_EINVAL(warpheap_take_device_events(NULL, &event, 1, NULL) == 0);
  CHECK_EINVAL(warpheap_take_device_events(heap, NULL, 1, NULL) == 0);
  errno = 0;
  CHECK(warpheap_take_device_events(heap, &event, 1, &lost) == 0 && lost == 0 && errno == 0);
  warpheap_destroy(heap);
  CHECK(lines.count == 0);
  return 0;
}

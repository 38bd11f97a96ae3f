/* Scratch stacks, regions, mark and sweep as a C99 program uses them. */
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <warpheap/warpheap.h>

#include "tests/c_api_checks.h"

static uint64_t stacks_inuse(const warpheap_heap* heap) {
  warpheap_memory memory;
  memory.struct_size = sizeof memory;
  return warpheap_get_memory(heap, &memory) == 0 ? memory.stacks_inuse : UINT64_MAX;
}

int c_api_stacks(void) {
  struct lines lines = {0, ""};
  warpheap_heap* heap = c_api_small_heap(&lines);
  size_t bytes;
  size_t alignment;
  void* p;
  CHECK(heap != NULL);
  CHECK(warpheap_stack_size(1, 16) == 2048 && warpheap_stack_size(2049, 1) == 4096);
  CHECK(warpheap_stack_size(100, 8192) == 8192 && warpheap_stack_size(0, 16) == 2048);
  for (bytes = 1; bytes <= (size_t)1 << 20; bytes = 3 * bytes) {
    for (alignment = 1; alignment <= 8192; alignment *= 2) {
      const size_t size = warpheap_stack_size(bytes, alignment);
      p = warpheap_acquire_stack(heap, bytes, alignment);
      CHECK(p != NULL && (uintptr_t)p % alignment == 0 && size >= bytes);
      memset(p, 0x5a, size);
      CHECK(stacks_inuse(heap) == size);
      warpheap_release_stack(heap, p, bytes, alignment);
      CHECK(stacks_inuse(heap) == 0);
    }
  }
  CHECK(lines.count == 0);

  p = warpheap_acquire_stack(heap, 5000, 16);
  CHECK(p != NULL);
  warpheap_free(heap, p); /* is no object */
  CHECK(lines.count == 1);
  CHECK_EINVAL((warpheap_release_stack(heap, p, 5000, 3), 1));
  CHECK_EINVAL((warpheap_release_stack(heap, p, SIZE_MAX, 16), 1));
  CHECK(stacks_inuse(heap) == 8192);
  warpheap_release_stack(heap, p, 5000, 16);
  CHECK(stacks_inuse(heap) == 0);
  warpheap_release_stack(heap, NULL, 5000, 16);

  CHECK_EINVAL(warpheap_acquire_stack(heap, 100, 0) == NULL);
  CHECK_EINVAL(warpheap_acquire_stack(heap, 100, 24) == NULL);
  CHECK_EINVAL(warpheap_acquire_stack(heap, 100, 16384) == NULL);
  CHECK_ERRNO(ENOMEM, warpheap_acquire_stack(heap, (size_t)65 << 20, 16) == NULL);
  CHECK_ERRNO(ENOMEM, warpheap_acquire_stack(heap, SIZE_MAX, 16) == NULL);
  CHECK_EINVAL(warpheap_stack_size(100, 24) == 0);
  CHECK_EINVAL(warpheap_stack_size(SIZE_MAX, 16) == 0);
  CHECK_EINVAL(warpheap_acquire_stack(NULL, 100, 16) == NULL);
  CHECK_EINVAL((warpheap_release_stack(NULL, &lines, 100, 16), 1));
  warpheap_destroy(heap);
  return 0;
}

int c_api_regions(void) {
  struct lines lines = {0, ""};
  warpheap_heap* heap = c_api_small_heap(&lines);
  warpheap_region* region;
  warpheap_region* other;
  char* objects[1000];
  int i;
  CHECK(heap != NULL);
  region = warpheap_region_create(heap, 0, 0);
  CHECK(region != NULL);
  CHECK(warpheap_region_used_bytes(region) == 0 && warpheap_region_chunk_bytes(region) == 0);
  for (i = 0; i < 1000; ++i) {
    objects[i] = warpheap_region_malloc(region, 100, 64);
    CHECK(objects[i] != NULL && (uintptr_t)objects[i] % 64 == 0);
    memset(objects[i], i, 100);
  }
  for (i = 0; i < 1000; ++i) CHECK(objects[i][0] == (char)i && objects[i][99] == (char)i);
  CHECK(warpheap_region_used_bytes(region) >= 100000);
  CHECK(warpheap_region_chunk_bytes(region) == (size_t)(64 + 128) << 10);
  warpheap_region_clear(region);
  CHECK(warpheap_region_used_bytes(region) == 0 && warpheap_region_chunk_bytes(region) == 0);
  CHECK(warpheap_region_malloc(region, 1, 1) != NULL);
  CHECK(warpheap_region_chunk_bytes(region) == (size_t)64 << 10);

  other = warpheap_region_create(heap, 8192, 16384);
  CHECK(other != NULL);
  for (i = 0; i < 40; ++i) CHECK(warpheap_region_malloc(other, 1024, 8) != NULL);
  CHECK(warpheap_region_chunk_bytes(other) == 8192 + 2 * 16384);
  warpheap_region_destroy(other);

  CHECK(lines.count == 0);
  CHECK_EINVAL(warpheap_region_malloc(region, 8, 0) == NULL);
  CHECK_EINVAL(warpheap_region_malloc(region, 8, 48) == NULL);
  CHECK_EINVAL(warpheap_region_malloc(region, 8, 16384) == NULL);
  CHECK_ERRNO(ENOMEM, warpheap_region_malloc(region, (size_t)65 << 20, 8) == NULL);
  CHECK_ERRNO(ENOMEM, warpheap_region_malloc(region, SIZE_MAX, 8) == NULL);
  CHECK_EINVAL(warpheap_region_create(NULL, 0, 0) == NULL);
  CHECK_EINVAL(warpheap_region_malloc(NULL, 8, 8) == NULL);
  CHECK_EINVAL((warpheap_region_clear(NULL), 1));
  CHECK_EINVAL(warpheap_region_used_bytes(NULL) == 0);
  CHECK_EINVAL(warpheap_region_chunk_bytes(NULL) == 0);
  warpheap_region_destroy(NULL);
  warpheap_region_destroy(region);
  warpheap_destroy(heap);
  return 0;
}

int c_api_sweep(void) {
  struct lines lines = {0, ""};
  warpheap_heap* heap = c_api_small_heap(&lines);
  warpheap_leak leaks[2];
  void* dangling[4];
  warpheap_sweep_report report;
  char* kept;
  char* tiny;
  char* large;
  char* freed;
  int i;
  int local = 0;
  CHECK(heap != NULL);
  kept = warpheap_malloc(heap, 100);
  tiny = warpheap_malloc(heap, 5);
  large = warpheap_malloc(heap, 100000);
  freed = warpheap_malloc(heap, 200);
  CHECK(kept != NULL && tiny != NULL && large != NULL && freed != NULL);
  for (i = 0; i < 10; ++i) CHECK(warpheap_malloc(heap, 500) != NULL);
  strcpy(kept, "kept");
  warpheap_free(heap, freed);

  CHECK(warpheap_mark(heap, kept) == WARPHEAP_MARKED);
  CHECK(warpheap_mark(heap, kept) == WARPHEAP_MARK_AGAIN);
  CHECK(warpheap_mark(heap, NULL) == WARPHEAP_MARK_AGAIN);
  CHECK(warpheap_mark(heap, large) == WARPHEAP_MARKED);
  CHECK(warpheap_mark(heap, freed) == WARPHEAP_MARK_DANGLING);
  CHECK(warpheap_mark(heap, &local) == WARPHEAP_MARK_FOREIGN);

  memset(&report, 0, sizeof report);
  report.struct_size = sizeof report;
  report.leaks = leaks;
  report.leaks_capacity = 2;
  report.dangling_pointers = dangling;
  report.dangling_capacity = 4;
  CHECK(warpheap_sweep(heap, &report) == 0);
  CHECK(report.struct_size == sizeof report);
  CHECK(report.kept_objects == 2 && report.kept_bytes >= 100100);
  CHECK(report.leaked_objects == 11 && report.leaked_bytes >= 5005);
  CHECK(report.leaked_by_class[WARPHEAP_CLASSES].objects == 1); /* the tiny one */
  CHECK(report.leaked_by_class[0].objects == 0);
  CHECK(report.dangling == 1 && report.dangling_listed == 1 && dangling[0] == freed);
  CHECK(report.leaks_listed == 2);
  for (i = 0; i < 2; ++i) {
    CHECK(leaks[i].address != NULL && warpheap_usable_size(heap, leaks[i].address) == 0);
    CHECK(leaks[i].address == tiny ? leaks[i].size_class == WARPHEAP_CLASSES
                                   : leaks[i].bytes >= 500);
  }
  CHECK(strcmp(kept, "kept") == 0 && warpheap_usable_size(heap, kept) >= 100);

  /* Marks hold for one sweep. Without a report it frees all the same. */
  CHECK(warpheap_sweep(heap, NULL) == 0);
  CHECK(warpheap_usable_size(heap, kept) == 0 && warpheap_usable_size(heap, large) == 0);
  /* A program that knows the lists only. */
  CHECK(warpheap_malloc(heap, 3000) != NULL);
  memset(&report, 0x55, sizeof report);
  report.struct_size = offsetof(warpheap_sweep_report, kept_objects);
  report.leaks = leaks;
  report.leaks_capacity = 2;
  report.dangling_pointers = NULL;
  report.dangling_capacity = 0;
  CHECK(warpheap_sweep(heap, &report) == 0);
  CHECK(report.leaks_listed == 1 && leaks[0].bytes == 3072 && report.dangling_listed == 0);
  CHECK(report.kept_objects == UINT64_C(0x5555555555555555));
  CHECK(lines.count == 0);
  warpheap_destroy(heap);
  return 0;
}

int c_api_mark_reachable(void) {
  struct lines lines = {0, ""};
  warpheap_heap* heap = c_api_small_heap(&lines);
  warpheap_sweep_report report;
  void** list = NULL;
  void** node;
  void** unread;
  void* lost;
  int i;
  CHECK(heap != NULL);
  for (i = 0; i < 100; ++i) {
    node = i % 3 == 0   ? warpheap_malloc_pointers(heap, 2 * sizeof(void*))
           : i % 3 == 1 ? warpheap_calloc_pointers(heap, 2, sizeof(void*))
                        : warpheap_aligned_alloc_pointers(heap, 64, 2 * sizeof(void*));
    CHECK(node != NULL && (i % 3 != 1 || (node[0] == NULL && node[1] == NULL)));
    CHECK(i % 3 != 2 || (uintptr_t)node % 64 == 0);
    node[0] = list;
    node[1] = warpheap_malloc(heap, 50);
    list = node;
  }
  unread = warpheap_malloc(heap, sizeof(void*) * 4);
  lost = warpheap_malloc(heap, 300);
  CHECK(unread != NULL && lost != NULL);
  unread[0] = lost;
  list = warpheap_realloc(heap, list, 10 * sizeof(void*)); /* of the same kind */
  CHECK(list != NULL);
  list[2] = unread;
  for (i = 3; i < 10; ++i) list[i] = NULL;
  CHECK(warpheap_mark_reachable(heap, list) == WARPHEAP_MARKED);
  CHECK(warpheap_mark_reachable(heap, list) == WARPHEAP_MARK_AGAIN);
  CHECK(warpheap_mark_reachable(heap, &lines) == WARPHEAP_MARK_FOREIGN);
  CHECK_EINVAL(warpheap_mark_reachable(NULL, list) == -1);
  CHECK_ERRNO(ENOMEM, warpheap_malloc_pointers(heap, SIZE_MAX) == NULL);
  CHECK_ERRNO(ENOMEM, warpheap_calloc_pointers(heap, SIZE_MAX, 2) == NULL);
  CHECK_ERRNO(ENOMEM, warpheap_aligned_alloc_pointers(heap, 64, SIZE_MAX) == NULL);
  memset(&report, 0, sizeof report);
  report.struct_size = sizeof report;
  CHECK(warpheap_sweep(heap, &report) == 0);
  CHECK(report.kept_objects == 201 && report.leaked_objects == 1 && report.dangling == 0);
  CHECK(warpheap_usable_size(heap, lost) == 0 && warpheap_usable_size(heap, unread) >= 32);
  CHECK(warpheap_reset(heap) == 0);
  warpheap_destroy(heap);
  return 0;
}

int c_api_sweep_bad_input(void) {
  struct lines lines = {0, ""};
  warpheap_options options = c_api_small_options(&lines);
  warpheap_heap* heap = warpheap_create(&options);
  warpheap_sweep_report report;
  void* p;
  CHECK(heap != NULL);
  p = warpheap_malloc(heap, 100);
  memset(&report, 0, sizeof report);
  CHECK_EINVAL(warpheap_sweep(heap, &report) == -1); /* struct_size */
  report.struct_size = sizeof report;
  report.leaks_capacity = 1;
  CHECK_EINVAL(warpheap_sweep(heap, &report) == -1);
  report.leaks_capacity = 0;
  report.dangling_capacity = 1;
  CHECK_EINVAL(warpheap_sweep(heap, &report) == -1);
  CHECK_EINVAL(warpheap_sweep(NULL, &report) == -1);
  CHECK_EINVAL(warpheap_mark(NULL, p) == -1);
  CHECK(warpheap_usable_size(heap, p) >= 100); /* nothing was swept */
  warpheap_free(heap, p);
  warpheap_destroy(heap);

  options.red_zones = 1;
  heap = warpheap_create(&options);
  CHECK(heap != NULL);
  p = warpheap_malloc(heap, 100);
  CHECK_ERRNO(ENOTSUP, warpheap_mark(heap, p) == -1);
  CHECK_ERRNO(ENOTSUP, warpheap_sweep(heap, NULL) == -1);
  CHECK(warpheap_usable_size(heap, p) >= 100);
  warpheap_free(heap, p);
  warpheap_destroy(heap);
  CHECK(lines.count == 0);
  return 0;
}

/* What the checks of the C API in C have in common, and their names. Each returns the line that
 * failed, 0 if none did; its GoogleTest case is in c_api_test.cpp. */
#ifndef WARPHEAP_TESTS_C_API_CHECKS_H
#define WARPHEAP_TESTS_C_API_CHECKS_H

#include <errno.h>
#include <warpheap/warpheap.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CHECK(condition)               \
  do {                                 \
    if (!(condition)) return __LINE__; \
  } while (0)

/* The call answers as said, sets errno, and has a text. */
#define CHECK_ERRNO(number, answer)                             \
  do {                                                          \
    errno = 0;                                                  \
    CHECK(answer);                                              \
    CHECK(errno == (number) && *warpheap_last_error() != '\0'); \
  } while (0)
#define CHECK_EINVAL(answer) CHECK_ERRNO(EINVAL, answer)

/* Reports of a heap. */
struct lines {
  int count;
  char last[200];
};

/* 64 MiB on the CPU, without the service; reports go to `lines`. */
warpheap_options c_api_small_options(struct lines* lines);
warpheap_heap* c_api_small_heap(struct lines* lines);

int c_api_objects(void);
int c_api_zero_sizes(void);
int c_api_errors(void);
int c_api_no_heap(void);
int c_api_options(void);
int c_api_no_cuda(void);

int c_api_stacks(void);
int c_api_regions(void);
int c_api_sweep(void);
int c_api_mark_reachable(void);
int c_api_sweep_bad_input(void);

int c_api_stats(void);
int c_api_memory(void);
int c_api_memory_limit(void);
int c_api_texts(const char* folder);
int c_api_taken_errors(void);
int c_api_profile(const char* folder);
int c_api_debug_modes(const char* folder);
int c_api_backend(void);
int c_api_figures_bad_input(void);

#ifdef __cplusplus
}
#endif

#endif

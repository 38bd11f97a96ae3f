/* The checks of c_api_test.c. */
#ifndef WARPHEAP_TESTS_C_API_CHECKS_H
#define WARPHEAP_TESTS_C_API_CHECKS_H

#ifdef __cplusplus
extern "C" {
#endif

int c_api_objects(void);
int c_api_zero_sizes(void);
int c_api_errors(void);
int c_api_no_heap(void);
int c_api_options(void);
int c_api_no_cuda(void);

#ifdef __cplusplus
}
#endif

#endif

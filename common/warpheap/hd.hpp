#pragma once

// WARPHEAP_HD marks functions that run both on the host and in kernels.
#ifdef __CUDACC__
#define WARPHEAP_HD __host__ __device__
#else
#define WARPHEAP_HD
#endif

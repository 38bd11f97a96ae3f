/* The version of warpheap, as MAJOR.MINOR.PATCH, for C, C++ and kernels. CMakeLists.txt reads it
 * from here. While MAJOR is 0, no version promises that programs written for another one compile or
 * link with it. */
#ifndef WARPHEAP_VERSION_H
#define WARPHEAP_VERSION_H

#define WARPHEAP_VERSION_MAJOR 0
#define WARPHEAP_VERSION_MINOR 1
#define WARPHEAP_VERSION_PATCH 0
/* As one number, to be compared: 10203 is 1.2.3. */
#define WARPHEAP_VERSION \
  (WARPHEAP_VERSION_MAJOR * 10000 + WARPHEAP_VERSION_MINOR * 100 + WARPHEAP_VERSION_PATCH)

#endif

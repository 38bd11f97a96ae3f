# Finds the CUDA compiler as WARPHEAP_CUDA asks for it. Sets WARPHEAP_HAS_CUDA and, in words,
# WARPHEAP_CUDA_REASON; enables the language with an explicit list of architectures.
# Included, not called: enable_language belongs to the scope of the top level.

set(WARPHEAP_HAS_CUDA OFF)
set(WARPHEAP_CUDA_REASON "switched off")

if(NOT WARPHEAP_CUDA STREQUAL "OFF")
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    # nvcc's usual place is seldom on PATH.
    find_program(WARPHEAP_NVCC nvcc PATHS ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES bin)
    mark_as_advanced(WARPHEAP_NVCC)
    if(WARPHEAP_NVCC)
      set(CMAKE_CUDA_COMPILER "${WARPHEAP_NVCC}" CACHE FILEPATH "CUDA compiler")
    endif()
  endif()

  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS} AND WARPHEAP_NVCC)
    # Machine code for each generation the toolkit knows, PTX of the newest for what comes after.
    execute_process(COMMAND "${WARPHEAP_NVCC}" --list-gpu-code
      OUTPUT_VARIABLE known ERROR_QUIET)
    string(REGEX MATCHALL "sm_[0-9]+" known "${known}")
    set(architectures "")
    foreach(arch IN ITEMS 75 80 90 100 120)
      if("sm_${arch}" IN_LIST known)
        list(APPEND architectures ${arch}-real)
      endif()
    endforeach()
    if(architectures)
      list(POP_BACK architectures newest)
      string(REPLACE "-real" "" newest "${newest}")
      list(APPEND architectures ${newest})
      set(CMAKE_CUDA_ARCHITECTURES "${architectures}" CACHE STRING "CUDA architectures")
    endif()
  endif()

  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    enable_language(CUDA)
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.0)
      set(WARPHEAP_CUDA_REASON
        "nvcc ${CMAKE_CUDA_COMPILER_VERSION} has no C++20: 12.0 or newer is needed")
    else()
      find_package(CUDAToolkit REQUIRED)
      set(WARPHEAP_HAS_CUDA ON)
      set(WARPHEAP_CUDA_REASON
        "nvcc ${CMAKE_CUDA_COMPILER_VERSION}, architectures ${CMAKE_CUDA_ARCHITECTURES}")
    endif()
  else()
    set(WARPHEAP_CUDA_REASON "no nvcc found")
  endif()

  if(WARPHEAP_CUDA STREQUAL "ON" AND NOT WARPHEAP_HAS_CUDA)
    message(FATAL_ERROR "WARPHEAP_CUDA is ON, but: ${WARPHEAP_CUDA_REASON}")
  endif()
endif()

# Kernel sources: one .cu file, compiled for the SIMT executor, for CUDA, or for both.
# Used by this project and, once installed, by the projects that find_package(warpheap).

# warpheap_add_simt_sources(target a.cu b.cu ...): the host compiler compiles each file, through a
# generated wrapper, as C++ for the SIMT executor.
function(warpheap_add_simt_sources target)
  foreach(source IN LISTS ARGN)
    cmake_path(ABSOLUTE_PATH source NORMALIZE)
    cmake_path(GET source STEM LAST_ONLY name)
    string(SHA1 key "${source}")
    string(SUBSTRING "${key}" 0 8 key)
    set(wrapper "${CMAKE_CURRENT_BINARY_DIR}/${target}.simt/${name}-${key}.simt.cpp")
    file(CONFIGURE OUTPUT "${wrapper}" CONTENT "#include \"${source}\"\n" @ONLY)
    target_sources(${target} PRIVATE "${wrapper}")
  endforeach()
endfunction()

# warpheap_add_cuda_sources(target a.cu b.cu ...): nvcc compiles each file, without relocatable
# device code.
function(warpheap_add_cuda_sources target)
  if(NOT ARGN)
    return()
  endif()
  get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
  if(NOT "CUDA" IN_LIST languages)
    message(FATAL_ERROR "warpheap_add_cuda_sources(${target}): call enable_language(CUDA) first")
  endif()
  foreach(source IN LISTS ARGN)
    cmake_path(ABSOLUTE_PATH source NORMALIZE)
    target_sources(${target} PRIVATE "${source}")
  endforeach()
  set_target_properties(${target} PROPERTIES CUDA_SEPARABLE_COMPILATION OFF)
  if("cuda_std_20" IN_LIST CMAKE_CUDA_COMPILE_FEATURES)
    target_compile_features(${target} PRIVATE cuda_std_20)
  else()
    # CMake 3.25 does not know that nvcc 12 and newer have C++20.
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20>)
  endif()
endfunction()

# warpheap_add_kernels(target a.cu b.cu ...): every flavour that warpheap was built for; that of CUDA
# only where the project has enabled the language.
function(warpheap_add_kernels target)
  get_target_property(built_for warpheap::host INTERFACE_COMPILE_DEFINITIONS)
  get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
  if("WARPHEAP_HAS_SIMT=1" IN_LIST built_for)
    warpheap_add_simt_sources(${target} ${ARGN})
  endif()
  if("WARPHEAP_HAS_CUDA=1" IN_LIST built_for AND "CUDA" IN_LIST languages)
    warpheap_add_cuda_sources(${target} ${ARGN})
  endif()
endfunction()

# Kernel sources: one .cu file, compiled for the SIMT executor, for CUDA, or for both.
# Used by this project and, once installed, by the projects that find_package(warpheap).

# warpheap_wrap_source(out target source folder ending text): a file in the build that has the text
# and includes the source.
function(warpheap_wrap_source out target source folder ending text)
  cmake_path(ABSOLUTE_PATH source NORMALIZE)
  cmake_path(GET source STEM LAST_ONLY name)
  string(SHA1 key "${source}")
  string(SUBSTRING "${key}" 0 8 key)
  set(wrapper "${CMAKE_CURRENT_BINARY_DIR}/${target}.${folder}/${name}-${key}.${ending}")
  file(CONFIGURE OUTPUT "${wrapper}" CONTENT "${text}#include \"${source}\"\n" @ONLY)
  set(${out} "${wrapper}" PARENT_SCOPE)
endfunction()

# warpheap_add_simt_sources(target [OBSERVE] a.cu b.cu ...): the host compiler compiles each file,
# through a generated wrapper, as C++ for the SIMT executor. OBSERVE: see warpheap_add_kernels.
function(warpheap_add_simt_sources target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "OBSERVE" "" "")
  set(text "")
  set(folder simt)
  if(arg_OBSERVE)
    set(text "#define WARPHEAP_OBSERVE 1\n")
    set(folder simt_observed)
  endif()
  foreach(source IN LISTS arg_UNPARSED_ARGUMENTS)
    warpheap_wrap_source(wrapper ${target} "${source}" ${folder} simt.cpp "${text}")
    target_sources(${target} PRIVATE "${wrapper}")
  endforeach()
endfunction()

# warpheap_add_cuda_sources(target [OBSERVE] a.cu b.cu ...): nvcc compiles each file, without
# relocatable device code. OBSERVE: see warpheap_add_kernels.
function(warpheap_add_cuda_sources target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "OBSERVE" "" "")
  if(NOT arg_UNPARSED_ARGUMENTS)
    return()
  endif()
  get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
  if(NOT "CUDA" IN_LIST languages)
    message(FATAL_ERROR "warpheap_add_cuda_sources(${target}): call enable_language(CUDA) first")
  endif()
  foreach(source IN LISTS arg_UNPARSED_ARGUMENTS)
    cmake_path(ABSOLUTE_PATH source NORMALIZE)
    if(arg_OBSERVE)
      warpheap_wrap_source(source ${target} "${source}" observed cu "#define WARPHEAP_OBSERVE 1\n")
    endif()
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

# warpheap_add_kernels(target [OBSERVE] a.cu b.cu ...): every flavour that warpheap was built for;
# that of CUDA only where the project has enabled the language. With OBSERVE, the calls of these
# files' kernels are counted, timed and logged (device/README.md).
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

# What only this project's own targets need: warnings, sanitizers, Thrust.

# warpheap_build_options(target): the flags of everything that is compiled here.
function(warpheap_build_options target)
  # -Wpedantic is not for nvcc's host pass: it warns of the line directives nvcc itself writes.
  # The same files meet it as SIMT sources.
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:C,CXX>:-Wall -Wextra -Wpedantic>
    $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra>)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
    # GCC 12 sees overlapping, endless and stray copies inside std::string where there are none.
    target_compile_options(${target} PRIVATE
      $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict -Wno-stringop-overflow -Wno-array-bounds>)
  endif()
  if(WARPHEAP_WERROR)
    target_compile_options(${target} PRIVATE
      $<$<COMPILE_LANGUAGE:C,CXX>:-Werror>
      $<$<COMPILE_LANGUAGE:CUDA>:-Werror all-warnings -Xcompiler=-Werror>)
  endif()
  if(WARPHEAP_SANITIZE)
    target_compile_options(${target} PRIVATE
      $<$<COMPILE_LANGUAGE:C,CXX>:-fsanitize=${WARPHEAP_SANITIZE} -fno-sanitize-recover=all
      -fno-omit-frame-pointer>)
    target_link_options(${target} PUBLIC -fsanitize=${WARPHEAP_SANITIZE})
    if(WARPHEAP_SANITIZE MATCHES "undefined")
      # Uses of null and of what lies behind an object the address sanitizer tells. These checks take
      # an eighth of the time to compile, and Thrust binds references to null that it never looks at.
      target_compile_options(${target} PRIVATE
        $<$<COMPILE_LANGUAGE:C,CXX>:-fno-sanitize=null,object-size>)
    endif()
  endif()
endfunction()

# warpheap_precompile(target): what its files include most, read once.
function(warpheap_precompile target)
  set(headers algorithm atomic chrono cstdio cstring functional memory mutex string vector)
  list(TRANSFORM headers REPLACE "(.+)" "$<$<COMPILE_LANGUAGE:CXX>:<\\1$<ANGLE-R>>")
  target_precompile_headers(${target} PRIVATE ${headers})
endfunction()

# warpheap_executable_architectures(target): tests and benchmarks are built for one architecture,
# so that a build takes a fifth of the time, unless the user has chosen.
function(warpheap_executable_architectures target)
  if(NOT WARPHEAP_HAS_CUDA)
    return()
  endif()
  set(architectures ${WARPHEAP_EXECUTABLE_ARCHITECTURES})
  if(NOT architectures)
    set(architectures 90)
  endif()
  set_target_properties(${target} PROPERTIES CUDA_ARCHITECTURES "${architectures}")
endfunction()

# warpheap_quick_launches(): from here on nvcc's host part, which starts kernels and calls the library,
# is compiled with -O1, and where no machine code is made for kernels, as nobody can start them, with
# -O0. It is most of the time to compile, and does not count.
macro(warpheap_quick_launches)
  set(quick -O1)
  if(WARPHEAP_EXECUTABLE_ARCHITECTURES MATCHES "^[0-9]+-virtual$")
    set(quick -O0)
  endif()
  string(REPLACE "-O3" "${quick}" CMAKE_CUDA_FLAGS_RELEASE "${CMAKE_CUDA_FLAGS_RELEASE}")
endmacro()

# warpheap_use_thrust(target): Thrust for .cu files. nvcc finds the toolkit's own. The SIMT flavour
# takes the system's Thrust with its sequential C++ back end, and only where there is none that of
# the toolkit: a recent one includes CUDA's headers wherever the compiler can find them, and their
# words clash with the executor's.
function(warpheap_use_thrust target)
  set(fallbacks "")
  if(WARPHEAP_HAS_CUDA)
    foreach(directory IN LISTS CUDAToolkit_INCLUDE_DIRS)
      list(APPEND fallbacks "${directory}/cccl")
    endforeach()
  endif()
  find_path(WARPHEAP_THRUST_INCLUDE_DIR thrust/version.h PATHS ${fallbacks} REQUIRED)
  mark_as_advanced(WARPHEAP_THRUST_INCLUDE_DIR)
  target_include_directories(${target} SYSTEM PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:${WARPHEAP_THRUST_INCLUDE_DIR}>)
  target_compile_definitions(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:THRUST_HOST_SYSTEM=THRUST_HOST_SYSTEM_CPP
    THRUST_DEVICE_SYSTEM=THRUST_DEVICE_SYSTEM_CPP>)
endfunction()

# warpheap_batches(out count source...): units of so many kernel sources each. CMake makes none for
# nvcc.
function(warpheap_batches out count)
  set(units "")
  list(LENGTH ARGN last)
  math(EXPR last "${last} - 1")
  foreach(first RANGE 0 ${last} ${count})
    list(SUBLIST ARGN ${first} ${count} batch)
    list(TRANSFORM batch REPLACE "(.+)" "#include \"\\1\"\n")
    list(JOIN batch "" text)
    set(unit ${CMAKE_CURRENT_BINARY_DIR}/units/from_${first}.cu)
    file(CONFIGURE OUTPUT ${unit} CONTENT "${text}" @ONLY)
    list(APPEND units ${unit})
  endforeach()
  set(${out} ${units} PARENT_SCOPE)
endfunction()

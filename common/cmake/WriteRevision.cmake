# cmake -DSOURCE=... -DHEADER=... -P WriteRevision.cmake: the revision of the source as a macro.
set(revision unknown)
find_program(git git)
if(git)
  execute_process(COMMAND ${git} -C ${SOURCE} describe --always --dirty
    OUTPUT_VARIABLE described RESULT_VARIABLE status ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(status EQUAL 0)
    set(revision ${described})
  endif()
endif()
# Only a new revision is written, so that only that compiles anything again.
file(CONFIGURE OUTPUT ${HEADER} CONTENT "#define WARPHEAP_REVISION \"${revision}\"\n" @ONLY)

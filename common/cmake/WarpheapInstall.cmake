# Install rules: headers of the three folders side by side, the library, the package files.
include(CMakePackageConfigHelpers)

set(package_directory ${CMAKE_INSTALL_LIBDIR}/cmake/warpheap)

set(installed_targets warpheap_common warpheap_host warpheap_device)
if(TARGET warpheap_malloc)
  list(APPEND installed_targets warpheap_malloc)
endif()
install(TARGETS ${installed_targets} EXPORT warpheap-targets)
foreach(folder IN ITEMS common host device)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${folder}/warpheap DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
    FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp" PATTERN "*.cuh")
endforeach()
install(EXPORT warpheap-targets NAMESPACE warpheap:: DESTINATION ${package_directory})

configure_package_config_file(
  ${PROJECT_SOURCE_DIR}/common/cmake/warpheap-config.cmake.in
  ${PROJECT_BINARY_DIR}/warpheap-config.cmake
  INSTALL_DESTINATION ${package_directory})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/warpheap-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES
  ${PROJECT_BINARY_DIR}/warpheap-config.cmake
  ${PROJECT_BINARY_DIR}/warpheap-config-version.cmake
  ${PROJECT_SOURCE_DIR}/common/cmake/WarpheapKernels.cmake
  DESTINATION ${package_directory})
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

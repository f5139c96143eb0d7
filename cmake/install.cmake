# What a user of the C library finds, in a wheel (where the prefix is the Python package) or under a prefix of
# `cmake --install`: the header, the library, a CMake package and a pkg-config file, none of which names the
# place that it was built for.
#
# The library's name carries the version of its ABI, so that a program and a library that do not fit are told
# apart when the program starts. A wheel cannot hold the symbolic link that gives it a second name; hence the
# full name in the wheel's pkg-config file, and the path to look in at run time, which no system knows.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

file(STRINGS csrc/convcore.h convcore_abi REGEX "^#define CC_ABI_VERSION ")
string(REGEX REPLACE "[^0-9]" "" convcore_abi "${convcore_abi}")
set_target_properties(convcore PROPERTIES VERSION ${convcore_abi} SOVERSION ${convcore_abi})

if(APPLE)
  set(origin "@loader_path")
else()
  set(origin "$ORIGIN")
endif()
if(SKBUILD)
  set(convcore_include_folder include)
  set(convcore_library_folder lib)
  set(convcore_root convcore/)
  set(namelink NAMELINK_SKIP)
  set(convcore_pc_libs "-L\${libdir} -Wl,-rpath,\${libdir} -l:libconvcore.so.${convcore_abi}")
else()
  set(convcore_include_folder ${CMAKE_INSTALL_INCLUDEDIR})
  set(convcore_library_folder ${CMAKE_INSTALL_LIBDIR})
  set(convcore_root)
  set(namelink)
  set(convcore_pc_libs "-L\${libdir} -lconvcore")
endif()
set(cmake_folder ${convcore_library_folder}/cmake/convcore)
file(RELATIVE_PATH convcore_prefix_from_pc /${convcore_library_folder}/pkgconfig /)
string(REGEX REPLACE "/$" "" convcore_prefix_from_pc "${convcore_prefix_from_pc}")

target_include_directories(convcore INTERFACE $<INSTALL_INTERFACE:${convcore_root}${convcore_include_folder}>)
install(
  TARGETS convcore
  EXPORT convcore
  LIBRARY DESTINATION ${convcore_root}${convcore_library_folder} ${namelink}
  ARCHIVE DESTINATION ${convcore_root}${convcore_library_folder})
install(FILES csrc/convcore.h DESTINATION ${convcore_root}${convcore_include_folder})
install(
  EXPORT convcore
  NAMESPACE convcore::
  FILE convcore-targets.cmake
  DESTINATION ${convcore_root}${cmake_folder})

configure_package_config_file(cmake/convcore-config.cmake.in convcore-config.cmake
                              INSTALL_DESTINATION ${convcore_root}${cmake_folder})
write_basic_package_version_file(convcore-config-version.cmake COMPATIBILITY SameMinorVersion)
configure_file(cmake/convcore.pc.in convcore.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/convcore-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/convcore-config-version.cmake
        DESTINATION ${convcore_root}${cmake_folder})
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/convcore.pc DESTINATION ${convcore_root}${convcore_library_folder}/pkgconfig)

# SPDX-License-Identifier: Apache-2.0
#
# umbra_sdk_library(NAME CORE target NAMESPACE cxx-namespace
#                   [SOURCES file...] [EXPOSE class...] [FUNCTIONS function...])
# The shared library of an SDK from its static core: own symbols only (the libraries inside stay
# inside, so that they cannot meet another copy in a customer's process), SONAME 0 until the API is
# frozen, headers, and a CMake package NAME whose target is umbra::NAME without its "umbra-".
# EXPOSE, FUNCTIONS: classes of umbra's public headers that its customers derive from, and functions
# that they call; SOURCES: where these are defined, if that is not in the base below.

include_guard()
include(CMakePackageConfigHelpers)

# The base types of the public headers (ids, errors, LUNs, names of enumerations). They are compiled into
# each SDK's library visibly; the engine's own copies are hidden.
set(UMBRA_SDK_BASE_SOURCES
  "${PROJECT_SOURCE_DIR}/engine/platform/errc.cc"
  "${PROJECT_SOURCE_DIR}/engine/platform/ids.cc"
  "${PROJECT_SOURCE_DIR}/engine/platform/result.cc"
  "${PROJECT_SOURCE_DIR}/engine/model/lun.cc"
  "${PROJECT_SOURCE_DIR}/engine/model/vss.cc")
set(UMBRA_SDK_BASE_INCLUDES engine/platform/include engine/model/include engine/documents/include)

function(umbra_sdk_library name)
  cmake_parse_arguments(arg "" "CORE;NAMESPACE" "SOURCES;EXPOSE;FUNCTIONS" ${ARGN})
  string(REGEX REPLACE "^umbra-" "" short "${name}")
  add_library(${name} SHARED ${UMBRA_SDK_BASE_SOURCES} ${arg_SOURCES})
  set(exposed "")
  foreach(class ${arg_EXPOSE})
    string(APPEND exposed "      umbra::${class}::*;
      typeinfo?for?umbra::${class};
      typeinfo?name?for?umbra::${class};
      vtable?for?umbra::${class};
")
  endforeach()
  foreach(function ${arg_FUNCTIONS})
    string(APPEND exposed "      umbra::${function}*;
")
  endforeach()
  set_source_files_properties(${UMBRA_SDK_BASE_SOURCES} ${arg_SOURCES} PROPERTIES COMPILE_OPTIONS
    "-fvisibility=default")
  set(script "${CMAKE_CURRENT_BINARY_DIR}/${name}.map")
  file(CONFIGURE OUTPUT "${script}" @ONLY CONTENT "{
  global:
    extern \"C++\" {
      umbra::@arg_NAMESPACE@::*;
      typeinfo?for?umbra::@arg_NAMESPACE@::*;
      typeinfo?name?for?umbra::@arg_NAMESPACE@::*;
      vtable?for?umbra::@arg_NAMESPACE@::*;
      umbra::Guid::*;
      umbra::Error::*;
      umbra::fail*;
      umbra::code_name*;
      umbra::describe*;
      umbra::remedy*;
      umbra::vss_name*;
      umbra::context_name*;
      umbra::display_name*;
      umbra::is_unique*;
      umbra::has_unique_identifier*;
      umbra::is_same_lun*;
      umbra::is_same_description*;
@exposed@    };
  local: *;
};
")
  target_link_libraries(${name}
    PUBLIC tl::expected
    PRIVATE umbra_flags umbra_boost "$<LINK_LIBRARY:WHOLE_ARCHIVE,${arg_CORE}>")
  target_link_options(${name} PRIVATE "LINKER:--version-script=${script}" "LINKER:-z,defs"
    "LINKER:--as-needed")
  if(UMBRA_SANITIZE)
    # The sanitizer's run time is in the program, so the library has undefined symbols.
    target_link_options(${name} PRIVATE "LINKER:-z,undefs")
  endif()
  set_target_properties(${name} PROPERTIES SOVERSION 0 VERSION 0.${PROJECT_VERSION}
    LINK_DEPENDS "${script}" EXPORT_NAME ${short})
  add_library(umbra::${short} ALIAS ${name})
  target_include_directories(${name} PUBLIC
    "$<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>"
    "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
  foreach(directory ${UMBRA_SDK_BASE_INCLUDES})
    target_include_directories(${name} PUBLIC
      "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/${directory}>")
    install(DIRECTORY "${PROJECT_SOURCE_DIR}/${directory}/" COMPONENT ${name}
      DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
  endforeach()
  install(DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}/include/" COMPONENT ${name}
    DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")

  set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/${name}")
  install(TARGETS ${name} EXPORT ${name}-targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
    COMPONENT ${name} NAMELINK_COMPONENT ${name})
  install(EXPORT ${name}-targets NAMESPACE umbra:: DESTINATION ${package_dir} COMPONENT ${name})
  file(CONFIGURE OUTPUT "${CMAKE_CURRENT_BINARY_DIR}/${name}-config.cmake" @ONLY CONTENT
    "include(CMakeFindDependencyMacro)
find_dependency(tl-expected)
include(\"\${CMAKE_CURRENT_LIST_DIR}/@name@-targets.cmake\")
")
  write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/${name}-config-version.cmake"
    COMPATIBILITY SameMinorVersion)
  install(FILES "${CMAKE_CURRENT_BINARY_DIR}/${name}-config.cmake"
    "${CMAKE_CURRENT_BINARY_DIR}/${name}-config-version.cmake" DESTINATION ${package_dir}
    COMPONENT ${name})
endfunction()

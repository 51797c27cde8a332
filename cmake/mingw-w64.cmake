# SPDX-License-Identifier: Apache-2.0
#
# Cross-compiles the portable layers for Windows. /usr/include must never be on mingw's path, so the
# header-only libraries are staged apart, as links.
set(CMAKE_SYSTEM_NAME Windows)
set(CMAKE_SYSTEM_PROCESSOR x86_64)
set(CMAKE_C_COMPILER x86_64-w64-mingw32-gcc-posix)
set(CMAKE_CXX_COMPILER x86_64-w64-mingw32-g++-posix)
set(CMAKE_FIND_ROOT_PATH /usr/x86_64-w64-mingw32)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)

set(UMBRA_STAGED_INCLUDE_DIR "${CMAKE_BINARY_DIR}/staged-include")
file(MAKE_DIRECTORY "${UMBRA_STAGED_INCLUDE_DIR}")
foreach(library boost tl pugixml.hpp pugiconfig.hpp)
  if(NOT EXISTS "${UMBRA_STAGED_INCLUDE_DIR}/${library}")
    file(CREATE_LINK "/usr/include/${library}" "${UMBRA_STAGED_INCLUDE_DIR}/${library}" SYMBOLIC)
  endif()
endforeach()

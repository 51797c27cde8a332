# SPDX-License-Identifier: Apache-2.0
#
# Every third-party library, found in one place; a target links the umbra_* alias of what it uses.
# Debian's packages are listed in script/lib/common.sh.

include_guard()
find_package(Threads REQUIRED)

add_library(umbra_boost INTERFACE)
if(UMBRA_PORTABLE_ONLY)
  # cmake/mingw-w64.cmake stages the header-only libraries apart from the host's own headers.
  target_include_directories(umbra_boost SYSTEM INTERFACE "${UMBRA_STAGED_INCLUDE_DIR}")
  target_link_libraries(umbra_boost INTERFACE ws2_32 mswsock bcrypt)
  add_library(umbra_expected INTERFACE)
  target_include_directories(umbra_expected SYSTEM INTERFACE "${UMBRA_STAGED_INCLUDE_DIR}")
  # Debian has no pugixml for mingw: its headers are enough to compile.
  add_library(pugixml::pugixml INTERFACE IMPORTED)
  target_include_directories(pugixml::pugixml SYSTEM INTERFACE "${UMBRA_STAGED_INCLUDE_DIR}")
  return()
endif()

find_package(Boost 1.81 REQUIRED)
target_link_libraries(umbra_boost INTERFACE Boost::headers Threads::Threads)
# No exceptions cross our boundaries, but Asio's own thread and executor code relies on them.
target_compile_definitions(umbra_boost INTERFACE
  BOOST_ASIO_NO_DEPRECATED BOOST_ASIO_DISABLE_BOOST_ARRAY)

find_package(tl-expected REQUIRED)
add_library(umbra_expected INTERFACE)
target_link_libraries(umbra_expected INTERFACE tl::expected)

find_package(PkgConfig REQUIRED)
find_package(spdlog REQUIRED)
find_package(pugixml REQUIRED)
find_package(CLI11 REQUIRED)
pkg_check_modules(liburing REQUIRED IMPORTED_TARGET liburing)
pkg_check_modules(libnl REQUIRED IMPORTED_TARGET libnl-genl-3.0)
pkg_check_modules(mount REQUIRED IMPORTED_TARGET mount)
pkg_check_modules(blkid REQUIRED IMPORTED_TARGET blkid)
pkg_check_modules(libnbd REQUIRED IMPORTED_TARGET libnbd)  # tests only
pkg_check_modules(sqlite3 REQUIRED IMPORTED_TARGET sqlite3)
pkg_check_modules(gnutls REQUIRED IMPORTED_TARGET gnutls)
pkg_check_modules(libpq REQUIRED IMPORTED_TARGET libpq)
pkg_check_modules(tomlplusplus REQUIRED IMPORTED_TARGET tomlplusplus)

# SPDX-License-Identifier: Apache-2.0
#
# The one place for compiler flags. Every target is made by umbra_library(), umbra_executable() or
# umbra_test(), so that language level, warnings, sanitizers and symbol visibility cannot differ.

include_guard()
include(GNUInstallDirs)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib")
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib")
find_program(UMBRA_CCACHE ccache)
if(UMBRA_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${UMBRA_CCACHE})
endif()

add_library(umbra_flags INTERFACE)
target_include_directories(umbra_flags INTERFACE "${PROJECT_SOURCE_DIR}")
target_compile_options(umbra_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wnon-virtual-dtor
  -Wold-style-cast -Woverloaded-virtual -Wimplicit-fallthrough)
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  target_compile_options(umbra_flags INTERFACE -Wthread-safety)
else()
  # gcc 12 sees overlaps and overflows in inlined std::string code where there are none (its bugs
  # 105651 and 105329; more of them with precompiled headers). The sanitizers look at the same code.
  target_compile_options(umbra_flags INTERFACE
    -Wno-restrict -Wno-array-bounds -Wno-stringop-overflow -Wno-stringop-overread)
endif()
if(UMBRA_WARNINGS_AS_ERRORS)
  target_compile_options(umbra_flags INTERFACE -Werror)
endif()
if(UMBRA_SANITIZE)
  target_compile_options(umbra_flags INTERFACE -fsanitize=${UMBRA_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(umbra_flags INTERFACE -fsanitize=${UMBRA_SANITIZE})
  if(UMBRA_SANITIZE MATCHES "undefined")
    # clang 14 cannot place its function-type prologue on coroutines.
    target_compile_options(umbra_flags INTERFACE -fno-sanitize=function -fno-sanitize-recover=all)
  endif()
endif()
# The sanitizers' build is the fuzzers' as well: what they cover is everything, compiled once.
if(UMBRA_FUZZ)
  target_compile_options(umbra_flags INTERFACE -fsanitize=fuzzer-no-link)
  target_link_options(umbra_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# The headers that most units need, compiled once for all of them (engine/precompiled/). A unit
# still includes what it uses; without this half of a build's time would be reading the same headers.
#
# umbra_library(NAME SOURCES file... [PUBLIC target...] [PRIVATE target...] [PRECOMPILED target])
# A static, position-independent building block. PUBLIC: what its headers need from others.
# PRECOMPILED: one of engine/precompiled/ other than the common one (UMBRA_COMMON_HEADERS), or NONE.
set(UMBRA_COMMON_HEADERS umbra_common_headers)
function(umbra_library name)
  cmake_parse_arguments(arg "" "PRECOMPILED" "SOURCES;PUBLIC;PRIVATE" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  if(NOT arg_PRECOMPILED)
    set(arg_PRECOMPILED ${UMBRA_COMMON_HEADERS})
  endif()
  if(NOT arg_PRECOMPILED STREQUAL "NONE")
    target_precompile_headers(${name} REUSE_FROM ${arg_PRECOMPILED})
  endif()
  target_link_libraries(${name} PUBLIC umbra_flags ${arg_PUBLIC} PRIVATE ${arg_PRIVATE})
  if(IS_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}/include")
    target_include_directories(${name} PUBLIC "${CMAKE_CURRENT_SOURCE_DIR}/include")
  endif()
endfunction()

# umbra_executable(NAME SOURCES file... [LINK target...] [INSTALL])
function(umbra_executable name)
  cmake_parse_arguments(arg "INSTALL" "" "SOURCES;LINK" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE umbra_flags ${arg_LINK})
  if(arg_INSTALL)
    install(TARGETS ${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT programs)
  endif()
endfunction()

# umbra_system_file(FILE DIRECTORY): FILE.in with the places of the programs filled in, installed with
# them for the system's own programs (systemd, udev) to read.
function(umbra_system_file file directory)
  configure_file(${file}.in "${PROJECT_BINARY_DIR}/system/${file}" @ONLY)
  install(FILES "${PROJECT_BINARY_DIR}/system/${file}" DESTINATION ${directory} COMPONENT programs)
endfunction()

# umbra_test(NAME LABEL label SOURCES file... [LINK target...] [TIMEOUT seconds])
# One Catch2 program; every TEST_CASE in it is a ctest case of its own, named "NAME:case".
# UMBRA_TEST_HEADERS: one of tests/precompiled/ with the flags of the folder.
set(UMBRA_TEST_HEADERS umbra_test_headers)
function(umbra_test name)
  cmake_parse_arguments(arg "" "LABEL;TIMEOUT" "SOURCES;LINK" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE umbra_flags umbra_test_support ${arg_LINK})
  target_precompile_headers(${name} REUSE_FROM ${UMBRA_TEST_HEADERS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/tests")
  set(properties LABELS "${arg_LABEL}" TIMEOUT ${arg_TIMEOUT} SKIP_RETURN_CODE 77
    ENVIRONMENT "UMBRA_CTEST=1;UMBRA_BIN_DIR=${CMAKE_RUNTIME_OUTPUT_DIRECTORY}")
  if(arg_LABEL STREQUAL "e2e")
    # Real daemons, mounts and loop devices: their time limits mean nothing beside other load.
    list(APPEND properties RUN_SERIAL TRUE)
  endif()
  catch_discover_tests(${name} TEST_PREFIX "${name}:" PROPERTIES ${properties})
endfunction()

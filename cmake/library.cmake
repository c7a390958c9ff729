# moecast_add_library(<folder>): static library moecast_<folder> from every .cc of the calling folder
# (sub-folders named after SUBFOLDERS too), linked to LINK.
function(moecast_add_library name)
  cmake_parse_arguments(arg "" "" "SUBFOLDERS;LINK" ${ARGN})
  set(patterns *.cc)
  foreach(folder IN LISTS arg_SUBFOLDERS)
    list(APPEND patterns ${folder}/*.cc)
  endforeach()
  file(GLOB sources CONFIGURE_DEPENDS ${patterns})
  if(NOT sources)  # a folder that has only headers so far
    set(sources ${CMAKE_CURRENT_BINARY_DIR}/headers_only.cc)
    file(WRITE ${sources} "")
  endif()
  add_library(moecast_${name} STATIC ${sources})
  target_link_libraries(moecast_${name} PUBLIC moecast_flags fmt::fmt ${arg_LINK})
endfunction()

# moecast_add_tests(<folder>): one test program for each kind of test in tests/<folder>, with the kind as ctest label.
# foo_test.cc is a unit test; foo_contract_test.cc, foo_fault_test.cc, foo_golden_test.cc, foo_validation_test.cc,
# foo_tidy_test.cc and foo_gpu_test.cc carry their kind in the name.
function(moecast_add_tests folder)
  cmake_parse_arguments(arg "" "" "LINK" ${ARGN})
  file(GLOB all CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*_test.cc)
  file(GLOB helpers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*_testing.cc)
  set(rest ${all})
  foreach(kind contract fault golden validation tidy gpu)
    set(sources ${all})
    list(FILTER sources INCLUDE REGEX "_${kind}_test\\.cc$")
    list(FILTER rest EXCLUDE REGEX "_${kind}_test\\.cc$")
    moecast_add_test_program(${folder} ${kind} "${sources}" "${helpers}" "${arg_LINK}")
  endforeach()
  moecast_add_test_program(${folder} unit "${rest}" "${helpers}" "${arg_LINK}")
endfunction()

function(moecast_add_test_program folder kind sources helpers link)
  if(NOT sources)
    return()
  endif()
  set(program ${folder}_${kind}_tests)
  add_executable(${program} ${PROJECT_SOURCE_DIR}/tests/main.cc ${sources} ${helpers})
  target_link_libraries(${program} PRIVATE ${link} GTest::gtest Threads::Threads)
  target_compile_definitions(${program} PRIVATE MOECAST_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
                                                MOECAST_BINARY_DIR="${PROJECT_BINARY_DIR}")
  set_target_properties(${program} PROPERTIES ENABLE_EXPORTS ON)
  gtest_discover_tests(${program} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
                       PROPERTIES LABELS ${kind} TIMEOUT 900)
endfunction()

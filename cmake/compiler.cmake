# One set of flags for everything of ours: warnings are errors, contraction off (the same bytes with every compiler).
add_library(moecast_flags INTERFACE)
target_include_directories(moecast_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(moecast_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Werror -ffp-contract=off>
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:GNU>>:-Wno-restrict -Wno-array-bounds>
  # Lines and functions: enough for a backtrace or a profile, and a third faster to compile than everything.
  $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CONFIG:RelWithDebInfo>>:-g1>)
target_compile_definitions(moecast_flags INTERFACE EIGEN_MPL2_ONLY)

if(MOECAST_SANITIZE)
  # GCC 12 sees uninitialised memory in the standard library's own code once it is instrumented.
  add_compile_options($<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  add_compile_options(-fsanitize=${MOECAST_SANITIZE} -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${MOECAST_SANITIZE})
  if(MOECAST_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
endif()

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  foreach(language CXX CUDA)
    if(NOT DEFINED CMAKE_${language}_COMPILER_LAUNCHER)
      set(CMAKE_${language}_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
    endif()
  endforeach()
endif()

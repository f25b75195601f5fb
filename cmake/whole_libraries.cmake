# SPDX-License-Identifier: Apache-2.0
#
# A library that lost its end, as on a full disk, is newer than what it is made of, so no build makes
# it again, and every later step fails at it. Each configuration, and so each build that Maven or the
# launcher starts, removes such libraries first. Also a program: cmake -DFOLDER=<folder> -P <this>.

# A shared library ends with its table of sections, of which the header says where it is.
function(exn_remove_cut_libraries folder)
  file(GLOB libraries ${folder}/*.so ${folder}/*.so.* ${folder}/*/*.so ${folder}/*/*.so.*)
  foreach(library IN LISTS libraries)
    if(IS_SYMLINK ${library})
      continue()
    endif()
    file(SIZE ${library} size)
    file(READ ${library} header LIMIT 64 HEX)
    set(whole FALSE)
    if(header MATCHES "^7f454c4602" AND NOT size LESS 64)  # ELF, 64 bits; little-endian, as all here
      set(numbers "")
      foreach(field IN ITEMS 40:8 58:2 60:2)  # e_shoff, e_shentsize, e_shnum: at, bytes
        string(REGEX MATCH "([0-9]+):([0-9]+)" field ${field})
        math(EXPR at "2 * ${CMAKE_MATCH_1}")
        math(EXPR digits "2 * ${CMAKE_MATCH_2}")
        string(SUBSTRING "${header}" ${at} ${digits} bytes)
        string(REGEX MATCHALL ".." bytes "${bytes}")
        list(REVERSE bytes)
        list(JOIN bytes "" number)
        list(APPEND numbers "0x0${number}")
      endforeach()
      list(GET numbers 0 begin)
      list(GET numbers 1 each)
      list(GET numbers 2 count)
      math(EXPR end "${begin} + ${each} * ${count}")
      if(end GREATER 0 AND NOT end GREATER size)
        set(whole TRUE)
      endif()
    endif()
    if(NOT whole)
      message(STATUS "${library} is cut off at ${size} bytes: it is linked again")
      file(REMOVE ${library})
    endif()
  endforeach()
endfunction()

if(CMAKE_SCRIPT_MODE_FILE)
  exn_remove_cut_libraries(${FOLDER})
else()
  exn_remove_cut_libraries(${CMAKE_BINARY_DIR}/lib)
endif()

# Writes OUT (a .cc file) with the bytes of IN as the function `std::string_view NAME()` of namespace moecast.
#   cmake -DIN= -DOUT= -DNAME= -P embed.cmake
file(READ ${IN} hex HEX)
string(LENGTH "${hex}" digits)
math(EXPR size "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "(................................................................................)" "\\1\n" bytes "${bytes}")
file(WRITE ${OUT} "#include <string_view>

namespace moecast {
namespace {
const unsigned char kBytes[] = {
${bytes}
};
}  // namespace
std::string_view ${NAME}() { return {reinterpret_cast<const char*>(kBytes), ${size}}; }
}  // namespace moecast
")

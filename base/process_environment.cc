#include "base/process_environment.h"

#include <cstdlib>

namespace moecast {

std::string environment_of_process(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

}  // namespace moecast

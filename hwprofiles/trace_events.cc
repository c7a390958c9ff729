#include "hwprofiles/trace_events.h"

#include <zlib.h>

#include <array>
#include <istream>
#include <memory>
#include <streambuf>

#include <nlohmann/json.hpp>

namespace moecast {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

struct CloseFile {
  void operator()(gzFile file) const { gzclose(file); }
};
using File = std::unique_ptr<std::remove_pointer_t<gzFile>, CloseFile>;

/// A file's content, unpacked if it is packed.
class UnpackingBuffer final : public std::streambuf {
 public:
  explicit UnpackingBuffer(const fs::path& path) : file_(gzopen(path.c_str(), "rb")) {}
  [[nodiscard]] bool is_open() const { return file_ != nullptr; }
  /// The archive was cut off or is damaged.
  [[nodiscard]] bool failed() const { return failed_; }

 protected:
  int_type underflow() override {
    const int count = gzread(file_.get(), buffer_.data(), static_cast<unsigned>(buffer_.size()));
    int code = Z_OK;
    gzerror(file_.get(), &code);
    failed_ = failed_ || count < 0 || code != Z_OK;
    if (count <= 0) return traits_type::eof();
    setg(buffer_.data(), buffer_.data(), buffer_.data() + count);
    return traits_type::to_int_type(buffer_[0]);
  }

 private:
  File file_;
  std::array<char, 1U << 16U> buffer_{};
  bool failed_ = false;
};

const Json* find(const Json& object, const char* key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() ? &*found : nullptr;
}

std::string text_at(const Json& object, const char* key) {
  const Json* value = find(object, key);
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

/// Numbers stand as numbers or, in some versions, as text.
std::optional<std::int64_t> integer_at(const Json& object, const char* key) {
  const Json* value = find(object, key);
  if (value == nullptr) return std::nullopt;
  if (value->is_number()) return static_cast<std::int64_t>(value->get<double>());
  if (!value->is_string()) return std::nullopt;
  char* end = nullptr;
  const std::string& text = value->get_ref<const std::string&>();
  const std::int64_t number = std::strtoll(text.c_str(), &end, 10);
  return end == text.c_str() + text.size() && !text.empty() ? std::optional(number) : std::nullopt;
}

std::vector<std::string> texts_at(const Json& object, const char* key) {
  std::vector<std::string> out;
  const Json* list = find(object, key);
  if (list == nullptr || !list->is_array()) return out;
  for (const Json& each : *list) out.push_back(each.is_string() ? each.get<std::string>() : std::string());
  return out;
}

/// A shape is a list of numbers; what else stands there (a list of tensors) has none.
std::vector<std::vector<std::int64_t>> dims_at(const Json& object, const char* key) {
  std::vector<std::vector<std::int64_t>> out;
  const Json* list = find(object, key);
  if (list == nullptr || !list->is_array()) return out;
  for (const Json& each : *list) {
    std::vector<std::int64_t>& dims = out.emplace_back();
    if (!each.is_array()) continue;
    for (const Json& size : each) {
      if (size.is_number_integer()) dims.push_back(size.get<std::int64_t>());
    }
    if (dims.size() != each.size()) dims.clear();
  }
  return out;
}

TraceEvent event_of(const Json& json) {
  TraceEvent event;
  event.name = text_at(json, "name");
  event.category = text_at(json, "cat");
  if (const Json* time = find(json, "dur"); time != nullptr && time->is_number()) {
    event.microseconds = time->get<double>();
  }
  static const Json kNone = Json::object();
  const Json* found = find(json, "args");
  const Json& args = found == nullptr ? kNone : *found;
  event.external_id = integer_at(args, "External id");
  if (!event.external_id) event.external_id = integer_at(args, "external id");
  event.dims = dims_at(args, "Input Dims");
  event.types = texts_at(args, "Input type");
  event.values = texts_at(args, "Concrete Inputs");
  event.bytes = integer_at(args, "bytes");
  event.collective = text_at(args, "Collective name");
  event.dtype = text_at(args, "dtype");
  event.elements_in = integer_at(args, "In msg nelems").value_or(0);
  event.elements_out = integer_at(args, "Out msg nelems").value_or(0);
  event.group_size = integer_at(args, "Group size").value_or(0);
  return event;
}

void take_header(const Json& json, TraceHeader& header) {
  if (json.contains("totalGlobalMem") && header.device.empty()) header.device = text_at(json, "name");
  if (!json.contains("world_size")) return;
  header.rank = integer_at(json, "rank").value_or(0);
  header.world_size = integer_at(json, "world_size").value_or(0);
  header.nccl_version = text_at(json, "nccl_version");
}

}  // namespace

bool looks_like_trace(const fs::path& path) {
  UnpackingBuffer buffer(path);
  if (!buffer.is_open()) return false;
  std::string start(std::size_t{1} << 16, '\0');
  start.resize(static_cast<std::size_t>(buffer.sgetn(start.data(), static_cast<std::streamsize>(start.size()))));
  if (start.find("\"traceEvents\"") != std::string::npos) return true;
  const std::size_t first = start.find_first_not_of(" \t\r\n");
  return first != std::string::npos && start[first] == '[' && start.find("\"ph\"") != std::string::npos;
}

Result<TraceHeader> read_trace(const fs::path& path, const std::function<void(const TraceEvent&)>& take) {
  UnpackingBuffer buffer(path);
  if (!buffer.is_open()) return Error{ErrorKind::BadInput, path.string(), "cannot be read"};
  std::istream stream(&buffer);
  TraceHeader header;
  // Objects are taken and dropped as soon as they are complete: a trace may be larger than memory.
  const auto on_value = [&](int, Json::parse_event_t kind, Json& value) {
    if (kind != Json::parse_event_t::object_end) return true;
    take_header(value, header);
    if (!value.contains("ph")) return true;
    if (value.at("ph") == "X") take(event_of(value));
    return false;
  };
  try {
    [[maybe_unused]] const Json rest = Json::parse(stream, on_value);
  } catch (const Json::exception& exception) {
    return Error{ErrorKind::BadInput, path.string(),
                 buffer.failed() ? "the archive is damaged or was cut off" : exception.what()};
  }
  return header;
}

}  // namespace moecast

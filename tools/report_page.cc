#include <string>
#include <string_view>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/assert.h"
#include "tools/report_data.h"

namespace moecast {

// Bytes of the files under tools/report and third_party/uplot (cmake/embed.cmake).
std::string_view report_html();
std::string_view report_css();
std::string_view common_js();
std::string_view sweep_js();
std::string_view sweep_charts_js();
std::string_view sweep_table_js();
std::string_view report_js();
std::string_view uplot_js();
std::string_view uplot_css();
std::string_view uplot_license();

namespace {

/// Every '<' escaped, so that no text can end the script element that holds it.
std::string script_safe(const nlohmann::ordered_json& data) {
  const std::string text = data.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  std::string out;
  out.reserve(text.size() + 64);
  for (const char c : text) {
    if (c == '<') {
      out += "\\u003c";
    } else {
      out += c;
    }
  }
  return out;
}

void replace_once(std::string& page, std::string_view mark, std::string_view text) {
  const std::size_t at = page.find(mark);
  ASSERT(at != std::string::npos, "the report's template lacks {}", mark);
  page.replace(at, mark.size(), text);
}

}  // namespace

std::string report_page(const nlohmann::ordered_json& data) {
  std::string page(report_html());
  replace_once(page, "@@UPLOT_CSS@@", uplot_css());
  replace_once(page, "@@REPORT_CSS@@", report_css());
  replace_once(page, "@@UPLOT_LICENSE@@", uplot_license());
  replace_once(page, "@@UPLOT_JS@@", uplot_js());
  replace_once(page, "@@COMMON_JS@@", common_js());
  replace_once(page, "@@SWEEP_JS@@", sweep_js());
  replace_once(page, "@@SWEEP_CHARTS_JS@@", sweep_charts_js());
  replace_once(page, "@@SWEEP_TABLE_JS@@", sweep_table_js());
  replace_once(page, "@@REPORT_JS@@", report_js());
  replace_once(page, "@@DATA@@", script_safe(data));  // last: the data may hold a mark
  return page;
}

}  // namespace moecast

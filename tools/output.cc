#include "tools/output.h"

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace guideway {
namespace {

constexpr size_t kGap = 2;        // between columns
constexpr size_t kReadable = 15;  // a column is not shortened below this while one can be spared
constexpr size_t kNarrowest = 6;  // nor below this at all

// Columns that UTF-8 text takes, one for each character.
size_t Width(absl::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

// The first `width` columns of `text`, the last of them «…» if something is cut off.
std::string Shortened(absl::string_view text, size_t width) {
  if (Width(text) <= width) return std::string(text);
  std::string out;
  size_t columns = 0;
  for (char c : text) {
    if ((c & 0xc0) != 0x80 && ++columns == width) break;
    out += c;
  }
  return out + "…";
}

// 1.23, 12.3 or 123 of the largest unit that leaves at least 1.
std::string Scaled(double n, absl::string_view gap, const std::vector<std::string>& units) {
  size_t unit = 0;
  while (n >= 999.5 && unit + 1 < units.size()) {
    n /= 1000;
    ++unit;
  }
  if (unit == 0) return absl::StrFormat("%.0f%s%s", n, gap, units[unit]);
  const int digits = n < 9.995 ? 2 : n < 99.95 ? 1 : 0;
  return absl::StrFormat("%.*f%s%s", digits, n, gap, units[unit]);
}

}  // namespace

Terminal Terminal::Stdout() {
  Terminal terminal;
  if (isatty(STDOUT_FILENO) == 0) return terminal;
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  terminal.colour = (no_color == nullptr || *no_color == '\0') &&
                    (term == nullptr || absl::string_view(term) != "dumb");
  winsize size = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) terminal.width = size.ws_col;
  return terminal;
}

std::string Coloured(absl::string_view text, Colour colour, const Terminal& terminal) {
  if (!terminal.colour || colour == Colour::kNone) return std::string(text);
  absl::string_view code = "0";
  switch (colour) {
    case Colour::kNone: break;
    case Colour::kGreen: code = "32"; break;
    case Colour::kYellow: code = "33"; break;
    case Colour::kRed: code = "31"; break;
    case Colour::kDim: code = "2"; break;
  }
  return absl::StrCat("\033[", code, "m", text, "\033[0m");
}

std::string Table::Render(const Terminal& terminal) const {
  std::vector<size_t> widths, shown;  // of all columns; which of them are shown
  size_t total = 0;
  for (size_t c = 0; c < columns_.size(); ++c) {
    size_t width = Width(columns_[c].heading);
    for (const auto& row : rows_) width = std::max(width, Width(row[c].text));
    widths.push_back(width);
    shown.push_back(c);
    total += width + (c > 0 ? kGap : 0);
  }
  const auto too_wide = [&] { return terminal.width > 0 && total > terminal.width; };
  const auto shorten = [&](size_t least) {
    while (too_wide()) {
      size_t widest = columns_.size();
      for (size_t c : shown) {
        if (columns_[c].align == Align::kRight || widths[c] <= least) continue;
        if (widest == columns_.size() || widths[c] > widths[widest]) widest = c;
      }
      if (widest == columns_.size()) break;
      --widths[widest];
      --total;
    }
  };
  shorten(kReadable);
  for (size_t i = shown.size(); i-- > 0 && too_wide();) {
    if (!columns_[shown[i]].spare) continue;
    total -= widths[shown[i]] + kGap;
    shown.erase(shown.begin() + static_cast<ptrdiff_t>(i));
  }
  shorten(kNarrowest);

  std::string out;
  const auto add_line = [&](const std::vector<Cell>& cells) {
    std::string line;
    size_t room = terminal.width > 0 ? terminal.width : std::string::npos;
    for (size_t c : shown) {
      if (c != shown.front()) {
        if (room <= kGap) break;
        line.append(kGap, ' ');
        room -= kGap;
      }
      const size_t width = std::min(widths[c], room);
      const std::string text = Shortened(cells[c].text, width);
      const std::string padding(width - std::min(width, Width(text)), ' ');
      const std::string coloured = Coloured(text, cells[c].colour, terminal);
      line += columns_[c].align == Align::kRight ? padding + coloured : coloured + padding;
      room -= width;
    }
    absl::StripTrailingAsciiWhitespace(&line);
    absl::StrAppend(&out, line, "\n");
  };
  std::vector<Cell> headings;
  for (const Column& column : columns_) headings.emplace_back(column.heading, Colour::kDim);
  add_line(headings);
  for (const auto& row : rows_) add_line(row);
  return out;
}

std::string HumanCount(uint64_t n) {
  if (n < 100000) return absl::StrCat(n);
  return Scaled(static_cast<double>(n), "", {"", "k", "M", "G", "T", "P", "E"});
}

std::string HumanBytes(uint64_t bytes) {
  return Scaled(static_cast<double>(bytes), " ", {"B", "kB", "MB", "GB", "TB", "PB", "EB"});
}

std::string HumanPercent(double share) {
  if (share <= 0) return "0%";
  if (share >= 1) return "100%";
  return share < 0.001 ? "<0.1%" : absl::StrFormat("%.1f%%", share * 100);
}

std::string HumanDuration(double seconds) {
  const auto s = static_cast<uint64_t>(std::max(seconds, 0.0));
  if (s < 60) return absl::StrCat(s, "s");
  if (s < 3600) return absl::StrCat(s / 60, "m ", s % 60, "s");
  if (s < 86400) return absl::StrCat(s / 3600, "h ", s / 60 % 60, "m");
  return absl::StrCat(s / 86400, "d ", s / 3600 % 24, "h");
}

std::string Counted(uint64_t n, absl::string_view noun) {
  return absl::StrCat(n, " ", noun, n == 1 ? "" : "s");
}

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  (void)google::protobuf::util::MessageToJsonString(message, &json, options);
  while (!json.empty() && json.back() == '\n') json.pop_back();
  return json + "\n";
}

std::string Quoted(absl::string_view text) {
  return text.empty() ? "null" : absl::StrCat("\"", text, "\"");
}

std::string ToJson(const std::vector<std::string>& strings) {
  google::protobuf::ListValue list;
  for (const std::string& s : strings) list.add_values()->set_string_value(s);
  std::string json;
  (void)google::protobuf::util::MessageToJsonString(list, &json);
  return json;
}

}  // namespace guideway

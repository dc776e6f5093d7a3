#include "tools/output.h"

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <clocale>
#include <cmath>
#include <cstdlib>
#include <cwchar>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "maglev/time_text.h"

namespace guideway {
namespace {

constexpr size_t kGap = 2;        // between columns
constexpr size_t kNarrowest = 6;  // a column is not made narrower than this

// Speaks UTF-8 on this thread while it lives, whatever the locale of the user.
class Utf8 {
 public:
  Utf8() {
    static const locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
    before_ = uselocale(utf8);
  }
  Utf8(const Utf8&) = delete;
  Utf8& operator=(const Utf8&) = delete;
  ~Utf8() { uselocale(before_); }

 private:
  locale_t before_;
};

bool IsPlain(absl::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
}

// Marks by which text runs from right to left, or hides.
bool Misleads(wchar_t c) {
  return c == 0x061c || (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
         (c >= 0x2060 && c <= 0x206f) || c == 0xfeff;
}

// Calls visit(bytes, columns) for each character, in order; -1 columns for what is not printable.
template <typename Visit>
void ForEachCharacter(absl::string_view text, Visit visit) {
  const Utf8 utf8;
  mbstate_t state = {};
  for (size_t i = 0; i < text.size();) {
    wchar_t c = 0;
    const size_t read = std::mbrtowc(&c, text.data() + i, text.size() - i, &state);
    const bool valid = read > 0 && read <= text.size() - i;
    if (!valid) state = {};
    const size_t bytes = valid ? read : 1;
    visit(text.substr(i, bytes), valid && !Misleads(c) ? wcwidth(c) : -1);
    i += bytes;
  }
}

// Whether `line` has a colour, as Coloured writes it, at `i`: its length, else 0.
size_t ColourAt(absl::string_view line, size_t i) {
  if (line.substr(i, 2) != "\033[") return 0;
  const size_t end = line.find_first_not_of("0123456789;", i + 2);
  return end != absl::string_view::npos && line[end] == 'm' ? end + 1 - i : 0;
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
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) {
    terminal.width = size.ws_col;
    terminal.height = size.ws_row;
  }
  return terminal;
}

size_t Width(absl::string_view text) {
  if (IsPlain(text)) return text.size();
  size_t width = 0;
  ForEachCharacter(text, [&](absl::string_view, int columns) {
    width += columns < 0 ? 1 : static_cast<size_t>(columns);
  });
  return width;
}

std::string Printable(absl::string_view text) {
  if (IsPlain(text)) return std::string(text);
  std::string out;
  ForEachCharacter(text, [&](absl::string_view bytes, int columns) {
    absl::StrAppend(&out, columns < 0 ? "?" : bytes);
  });
  return out;
}

std::string Cut(absl::string_view line, size_t width) {
  // Columns before the cut, if there is to be one.
  const size_t room = width > 0 ? width - 1 : 0;
  std::string out;
  std::string colours_after;
  size_t columns = 0, cut = std::string::npos;
  for (size_t i = 0; i < line.size();) {
    if (const size_t colour = ColourAt(line, i); colour > 0) {
      absl::StrAppend(&out, line.substr(i, colour));
      if (cut != std::string::npos) absl::StrAppend(&colours_after, line.substr(i, colour));
      i += colour;
      continue;
    }
    const size_t next = std::min(line.find("\033[", i + 1), line.size());
    ForEachCharacter(line.substr(i, next - i), [&](absl::string_view bytes, int wide) {
      columns += wide < 0 ? 1 : static_cast<size_t>(wide);
      if (columns > room && cut == std::string::npos) cut = out.size();
      absl::StrAppend(&out, wide < 0 ? "?" : bytes);
    });
    i = next;
  }
  if (columns <= width) return out;
  out.resize(cut);
  return absl::StrCat(out, width > 0 ? "…" : "", colours_after);
}

std::string CutMiddle(absl::string_view text, size_t width) {
  if (Width(text) <= width || width < 3) return Cut(text, width);
  // Of what is left both ends have half; characters are kept whole.
  std::vector<std::pair<absl::string_view, size_t>> characters;
  ForEachCharacter(text, [&](absl::string_view bytes, int columns) {
    characters.emplace_back(bytes, columns < 0 ? 1 : static_cast<size_t>(columns));
  });
  const size_t tail_room = (width - 1) / 2;
  size_t tail = characters.size(), tail_columns = 0;
  // One that takes no column belongs to the one before it.
  for (size_t i = characters.size(), columns = 0; i-- > 0;) {
    columns += characters[i].second;
    if (columns > tail_room) break;
    if (characters[i].second == 0) continue;
    tail = i;
    tail_columns = columns;
  }
  std::string out = Cut(text, width - tail_columns);
  for (; tail < characters.size(); ++tail) absl::StrAppend(&out, characters[tail].first);
  return out;
}

std::string Filled(absl::string_view text, size_t width) {
  if (width == 0) return std::string(text);
  std::vector<std::string> lines;
  size_t columns = 0;  // of the last line, while its paragraph goes on
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (line.empty() || line[0] == ' ') {
      lines.emplace_back(line);
      columns = 0;
      continue;
    }
    for (const absl::string_view word : absl::StrSplit(line, ' ')) {
      const size_t wide = Width(word);
      if (columns > 0 && columns + 1 + wide <= width) {
        absl::StrAppend(&lines.back(), " ", word);
        columns += 1 + wide;
      } else {
        lines.emplace_back(word);
        columns = wide;
      }
    }
  }
  return absl::StrJoin(lines, "\n");
}

void Table::Add(std::vector<Cell> row) {
  for (Cell& cell : row) {
    if (!IsPlain(cell.text)) cell.text = Printable(cell.text);
  }
  rows_.push_back(std::move(row));
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

std::string Table::Render(const Terminal& terminal, size_t* left_out) const {
  std::vector<size_t> natural, widths, shown;  // of all columns; which of them are shown
  for (size_t c = 0; c < columns_.size(); ++c) {
    size_t width = Width(columns_[c].heading);
    for (const auto& row : rows_) width = std::max(width, Width(row[c].text));
    natural.push_back(width);
    shown.push_back(c);
  }
  size_t total = 0;
  const auto all_whole = [&] {
    widths = natural;
    total = shown.empty() ? 0 : (shown.size() - 1) * kGap;
    for (size_t c : shown) total += widths[c];
  };
  const auto too_wide = [&] { return terminal.width > 0 && total > terminal.width; };
  const auto shorten = [&](auto least) {
    while (too_wide()) {
      size_t widest = columns_.size();
      for (size_t c : shown) {
        if (columns_[c].align == Align::kRight || columns_[c].shorten == Shorten::kNever) continue;
        if (widths[c] <= least(columns_[c])) continue;
        if (widest == columns_.size() || widths[c] > widths[widest]) widest = c;
      }
      if (widest == columns_.size()) break;
      --widths[widest];
      --total;
    }
  };
  const auto readable = [](const Column& column) { return column.readable; };
  all_whole();
  shorten(readable);
  while (too_wide()) {
    // The last of those that can be spared most easily.
    const auto spared = std::max_element(shown.rbegin(), shown.rend(), [&](size_t a, size_t b) {
      return columns_[a].spare < columns_[b].spare;
    });
    if (spared == shown.rend() || columns_[*spared].spare == 0) break;
    shown.erase(std::next(spared).base());
    // Its room is the others'.
    all_whole();
    shorten(readable);
  }
  shorten([](const Column&) { return kNarrowest; });

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
      const std::string text = columns_[c].shorten == Shorten::kMiddle
                                   ? CutMiddle(cells[c].text, width)
                                   : Cut(cells[c].text, width);
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
  const size_t spared = columns_.size() - shown.size();
  if (left_out != nullptr) {
    *left_out += spared;
  } else if (spared > 0) {
    absl::StrAppend(&out,
                    Coloured(Cut(absl::StrCat("… ", Counted(spared, "column"), " more when wider"),
                                 terminal.width),
                             Colour::kDim, terminal),
                    "\n");
  }
  return out;
}

std::string HumanCount(uint64_t n) {
  if (n < 10000) return absl::StrCat(n);
  return Scaled(static_cast<double>(n), "", {"", "k", "M", "G", "T", "P", "E"});
}

std::string HumanBytes(uint64_t bytes) {
  return Scaled(static_cast<double>(bytes), " ", {"B", "kB", "MB", "GB", "TB", "PB", "EB"});
}

std::string HumanRate(double per_second) {
  if (per_second < 0.05) return "0";
  if (per_second < 9.95) return absl::StrFormat("%.1f", per_second);
  return HumanCount(static_cast<uint64_t>(std::llround(std::min(per_second, 1e18))));
}

std::string HumanPercent(double share) {
  if (share <= 0) return "0%";
  if (share >= 1 - 1e-12) return "100%";  // a sum of shares
  if (share < 0.001) return "<0.1%";
  return share >= 0.9995 ? ">99.9%" : absl::StrFormat("%.1f%%", share * 100);
}

std::string HumanDuration(double seconds) {
  return AgeText(static_cast<uint64_t>(std::llround(std::max(seconds, 0.0) * 1000)));
}

std::string Counted(uint64_t n, absl::string_view noun) {
  return absl::StrCat(n, " ", noun, n == 1 ? "" : "s");
}

std::string Listed(std::vector<std::string> names, size_t most) {
  const size_t more = names.size() > most ? names.size() - most : 0;
  names.resize(names.size() - more);
  return absl::StrCat(absl::StrJoin(names, ", "),
                      more > 0 ? absl::StrCat(" and ", more, " more") : "");
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

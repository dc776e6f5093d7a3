// How `guideway` shows things: tables that fit the terminal, numbers for people, messages as JSON
// and YAML for programs.
//
// Colour and a bounded width only where a terminal is at the other end: what goes into a pipe is
// whole and plain.
#ifndef GUIDEWAY_TOOLS_OUTPUT_H_
#define GUIDEWAY_TOOLS_OUTPUT_H_

#include <google/protobuf/message.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace guideway {

// Where the output goes.
struct Terminal {
  bool colour = false;
  size_t width = 0;   // columns; 0: unbounded
  size_t height = 0;  // rows; 0: unbounded

  // Of standard output. NO_COLOR (https://no-color.org) in the environment turns colour off, and so
  // does TERM=dumb.
  static Terminal Stdout();
};

enum class Colour { kNone, kGreen, kYellow, kRed, kDim };

// Rows under headings, a column as wide as its widest cell. When they are too wide for the
// terminal, the widest columns of text are shortened as far as they are readable, with «…» where
// something is missing; then spare columns are left out; then text is shortened further. What is
// still too wide is cut at the edge. Cells show what Printable makes of them.
class Table {
 public:
  enum class Align { kLeft, kRight };
  // What may be missing of a text: its end; its middle, where the end tells it from others, as in
  // names and addresses; nothing.
  enum class Shorten { kEnd, kMiddle, kNever };
  struct Column {
    std::string heading;
    Align align = Align::kLeft;  // to the right: numbers, which are never shortened
    // 0: is always there. Of the others the largest goes first, of equal ones the last.
    int spare = 0;
    Shorten shorten = Shorten::kEnd;
    // It is not made narrower than this while another can be spared.
    size_t readable = 15;
  };
  // Of names, addresses, paths.
  static Column Names(std::string heading, int spare = 0) {
    return {std::move(heading), Align::kLeft, spare, Shorten::kMiddle};
  }
  struct Cell {
    Cell(std::string t, Colour c = Colour::kNone) : text(std::move(t)), colour(c) {}
    Cell(const char* t) : text(t) {}
    std::string text;
    Colour colour = Colour::kNone;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  // As many cells as columns.
  void Add(std::vector<Cell> row);
  bool empty() const { return rows_.empty(); }

  // Lines with a line feed each, the headings first. Where columns are left out the last line says
  // so; with `left_out` there is none, and their number is added to that.
  std::string Render(const Terminal& terminal, size_t* left_out = nullptr) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<Cell>> rows_;
};

// Columns that UTF-8 text takes on a terminal: two for wide characters, none for combining ones.
size_t Width(absl::string_view text);
// Of text from elsewhere, what may go to a terminal: «?» for control characters, for characters
// that change the direction of writing, and for what is not UTF-8.
std::string Printable(absl::string_view text);
// A line of printable text and colours, cut to so many columns, the last of them «…» if something
// is missing.
std::string Cut(absl::string_view line, size_t width);
// Printable text without colours, cut likewise, but in the middle: «edge-ams-…-042».
std::string CutMiddle(absl::string_view text, size_t width);

// Text whose paragraphs are lines that begin without a space: those are filled anew to so many
// columns, all other lines stay. 0: nothing is changed.
std::string Filled(absl::string_view text, size_t width);

std::string Coloured(absl::string_view text, Colour colour, const Terminal& terminal);

std::string HumanCount(uint64_t n);         // 9999, 12.3k, 45.6G
std::string HumanBytes(uint64_t bytes);     // 512 B, 1.23 kB, 45.6 GB
std::string HumanRate(double per_second);   // 0, 0.3, 12, 9999, 1.23M
std::string HumanPercent(double share);     // 0 to 1: 33.3%
std::string HumanDuration(double seconds);  // 0.4s, 3m 5s, 2h 3m, 5d 4h

// «1 service», «3 services».
std::string Counted(uint64_t n, absl::string_view noun);

// «a, b and 3 more»: of those that are more than `most` only how many.
std::string Listed(std::vector<std::string> names, size_t most);

// Of messages of the API: connections without those that are closing.
template <typename Thing>
uint64_t OpenOf(const Thing& thing) {
  return thing.active_flows() - std::min(thing.active_flows(), thing.closing_flows());
}

// Names as in the schema, zeros included; ends in a line feed.
std::string ToJson(const google::protobuf::Message& message);
// "…", or null for an empty one. Of names and sentences of our own, which need no escapes.
std::string Quoted(absl::string_view text);
// ["…", "…"]
std::string ToJson(const std::vector<std::string>& strings);

}  // namespace guideway

#endif  // GUIDEWAY_TOOLS_OUTPUT_H_

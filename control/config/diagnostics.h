// What is to be said about a configuration file, and where: the text with its lines, and the list
// of findings that loading collects.
//
// Used by the steps of LoadConfig (config.h) and nobody else. Not thread-safe: one load, one
// thread.
//
// A position is a byte offset into the text. A line about it reads FILE:LINE:COLUMN, both from 1,
// the column in characters. Every position that is told lies inside the text (or at its end, for an
// empty one).
#ifndef GUIDEWAY_CONTROL_CONFIG_DIAGNOSTICS_H_
#define GUIDEWAY_CONTROL_CONFIG_DIAGNOSTICS_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace guideway {

class SourceText {
 public:
  // Both outlive this.
  SourceText(absl::string_view file_name, absl::string_view text);

  absl::string_view file_name() const { return file_name_; }
  absl::string_view text() const { return text_; }

  // «FILE:LINE:COLUMN» of a byte offset; one behind the end counts as the last byte.
  std::string At(size_t position) const;
  size_t LineAt(size_t position) const;  // from 1

 private:
  absl::string_view file_name_;
  absl::string_view text_;
  std::vector<uint32_t> line_starts_;
};

enum class Severity { kError, kWarning };

class Findings {
 public:
  // Beyond this many of one severity they are only counted.
  static constexpr size_t kMaxKept = 1000;

  explicit Findings(const SourceText* source) : source_(source) {}

  void Add(Severity severity, size_t position, std::string text);
  void Error(size_t position, std::string text) {
    Add(Severity::kError, position, std::move(text));
  }
  // In a file that the text names at `position`, where it is listed; `line` says its own place.
  void ErrorElsewhere(size_t position, std::string line);
  // So many errors that looking for more is of no use.
  bool full() const { return count(Severity::kError) >= kMaxKept; }
  bool has_errors() const { return count(Severity::kError) > 0; }
  size_t count(Severity severity) const { return lists_[static_cast<size_t>(severity)].count; }

  // The lines of one severity in file order, at most `limit`; then one that says how many more.
  std::vector<std::string> Lines(Severity severity, size_t limit) const;

  const SourceText& source() const { return *source_; }

 private:
  struct Finding {
    size_t position;
    std::string text;
    bool elsewhere = false;  // `text` begins with its place
  };
  struct List {
    size_t count = 0;
    std::vector<Finding> kept;
  };

  void Add(Severity severity, Finding finding);

  const SourceText* source_;
  List lists_[2];
};

// `text` as it is shown in a message: in quotes with escapes, shortened when long.
std::string Quote(absl::string_view text);

// «a, b or c».
std::string OneOf(const std::vector<std::string>& words);

// «; did you mean x?» for the word of `words` that is nearest to `found`: no more than one letter
// in three is wrong (of short words one), and no other word is as near. Empty if there is none.
std::string Suggestion(absl::string_view found, const std::vector<std::string>& words);

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_CONFIG_DIAGNOSTICS_H_

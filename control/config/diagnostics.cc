#include "control/config/diagnostics.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace guideway {
namespace {

bool ContinuesCharacter(char c) { return (static_cast<uint8_t>(c) & 0xc0) == 0x80; }

// Letters that are wrong, missing, too many, or two that changed places. Both words are short.
size_t Typos(absl::string_view a, absl::string_view b) {
  std::vector<size_t> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    std::swap(before, above);
    std::swap(above, row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] =
          std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] == b[j - 1] ? 0u : 1u)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
  }
  return row[b.size()];
}

}  // namespace

SourceText::SourceText(absl::string_view file_name, absl::string_view text)
    : file_name_(file_name), text_(text), line_starts_({0}) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n' && i + 1 < text.size())
      line_starts_.push_back(static_cast<uint32_t>(i + 1));
  }
}

size_t SourceText::LineAt(size_t position) const {
  if (position >= text_.size()) position = text_.empty() ? 0 : text_.size() - 1;
  return static_cast<size_t>(std::upper_bound(line_starts_.begin(), line_starts_.end(), position) -
                             line_starts_.begin());
}

std::string SourceText::At(size_t position) const {
  if (position >= text_.size()) position = text_.empty() ? 0 : text_.size() - 1;
  const size_t line = LineAt(position);
  size_t column = 1;
  for (size_t i = line_starts_[line - 1]; i < position; ++i) {
    if (!ContinuesCharacter(text_[i + 1])) ++column;
  }
  // A byte order mark is no character of the first line.
  if (line == 1 && column > 1 && absl::StartsWith(text_, "\xef\xbb\xbf")) --column;
  return absl::StrCat(file_name_, ":", line, ":", column);
}

void Findings::Add(Severity severity, size_t position, std::string text) {
  Add(severity, {position, std::move(text)});
}

void Findings::ErrorElsewhere(size_t position, std::string line) {
  Add(Severity::kError, {position, std::move(line), true});
}

void Findings::Add(Severity severity, Finding finding) {
  List& list = lists_[static_cast<size_t>(severity)];
  ++list.count;
  if (list.kept.size() < kMaxKept) list.kept.push_back(std::move(finding));
}

std::vector<std::string> Findings::Lines(Severity severity, size_t limit) const {
  const List& list = lists_[static_cast<size_t>(severity)];
  std::vector<const Finding*> sorted;
  for (const Finding& finding : list.kept) sorted.push_back(&finding);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const Finding* a, const Finding* b) { return a->position < b->position; });
  if (sorted.size() > limit) sorted.resize(limit);
  std::vector<std::string> lines;
  for (const Finding* finding : sorted) {
    lines.push_back(finding->elsewhere
                        ? finding->text
                        : absl::StrCat(source_->At(finding->position), ": ", finding->text));
  }
  if (list.count > sorted.size() && !sorted.empty()) {
    lines.push_back(absl::StrCat(source_->At(sorted.back()->position), ": … and ",
                                 list.count >= kMaxKept ? "at least " : "",
                                 list.count - sorted.size(), " more"));
  }
  return lines;
}

std::string Quote(absl::string_view text) {
  constexpr size_t kShown = 48;
  const bool cut = text.size() > kShown;
  if (cut) {
    size_t end = kShown;
    while (end > 0 && ContinuesCharacter(text[end])) --end;
    text = text.substr(0, end);
  }
  return absl::StrCat("\"", absl::Utf8SafeCEscape(text), cut ? "…" : "", "\"");
}

std::string OneOf(const std::vector<std::string>& words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) {
    absl::StrAppend(&text, i == 0 ? "" : i + 1 == words.size() ? " or " : ", ", words[i]);
  }
  return text;
}

std::string Suggestion(absl::string_view found, const std::vector<std::string>& words) {
  constexpr size_t kLongest = 64;
  if (found.size() > kLongest) return "";
  const std::string* nearest = nullptr;
  size_t least = 0;
  bool two = false;  // are equally near: web-7 is not web-1 rather than web-2
  for (const std::string& word : words) {
    const size_t typos = Typos(found, absl::string_view(word));
    // One in three letters, or one; and something must be right.
    if (typos > std::max<size_t>(1, found.size() / 3)) continue;
    if (typos >= std::min(found.size(), word.size())) continue;
    if (nearest == nullptr || typos < least) {
      least = typos;
      nearest = &word;
      two = false;
    } else if (typos == least && word != *nearest) {
      two = true;
    }
  }
  return nearest == nullptr || two ? "" : absl::StrCat("; did you mean ", *nearest, "?");
}

}  // namespace guideway

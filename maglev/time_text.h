// Times and ages, as all texts for people have them.
#ifndef GUIDEWAY_MAGLEV_TIME_TEXT_H_
#define GUIDEWAY_MAGLEV_TIME_TEXT_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace guideway {

// Two units at most: «0.4s», «12s», «3m 5s», «2h 3m», «5d 4h».
inline std::string AgeText(uint64_t ms) {
  const uint64_t s = ms / 1000, tenths = ms / 100 % 10;
  if (s < 10 && tenths > 0) return absl::StrCat(s, ".", tenths, "s");
  if (s < 60) return absl::StrCat(s, "s");
  if (s < 3600) return absl::StrCat(s / 60, "m ", s % 60, "s");
  if (s < 86400) return absl::StrCat(s / 3600, "h ", s / 60 % 60, "m");
  return absl::StrCat(s / 86400, "d ", s / 3600 % 24, "h");
}

// 2026-01-02T03:04:05.678+00:00, as the API has it, to the second and in its zone, UTC:
// 2026-01-02 03:04:05.
inline std::string TimeText(absl::string_view time) {
  constexpr size_t kDate = 10, kToTheSecond = 19;
  std::string text(time.substr(0, kToTheSecond));
  if (text.size() > kDate) text[kDate] = ' ';
  return text;
}

}  // namespace guideway

#endif  // GUIDEWAY_MAGLEV_TIME_TEXT_H_

#include "control/event_log.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "glog/logging.h"

namespace guideway {
namespace {

constexpr size_t kMaxEvents = 100;

// What is found out of one host within this time is one event: other services ask it at other
// times.
constexpr absl::Duration kOneMoment = absl::Seconds(5);
// So many backends of it have an event of their own.
constexpr size_t kOneByOne = 4;

}  // namespace

void EventLog::Add(std::string text) {
  LOG(INFO) << text;
  Append(std::move(text));
}

void EventLog::AddWarning(std::string text) {
  LOG(WARNING) << text;
  Append(std::move(text));
}

void EventLog::Append(std::string text) {
  if (events_.size() == kMaxEvents) events_.pop_front();
  ++told_;
  api::Event& event = events_.emplace_back();
  event.set_time(absl::FormatTime(absl::Now(), absl::UTCTimeZone()));
  event.set_text(std::move(text));
}

void EventLog::AddOfHost(const IpAddress& address, absl::Duration now, const std::string& backend,
                         const std::string& what) {
  const uint64_t gone = told_ - events_.size();  // events
  absl::erase_if(findings_, [&](const auto& finding) {
    return now - finding.second.time > kOneMoment || finding.second.event <= gone;
  });
  Finding& finding = findings_[address];
  if (finding.what != what) finding = {.what = what, .time = now};
  ++finding.backends;
  std::string text = absl::StrCat("backend ", backend, " ", what);
  if (finding.backends <= kOneByOne) {
    Add(std::move(text));
    finding.event = told_;
    finding.last_named = backend;
    return;
  }
  LOG(INFO) << text;
  events_[finding.event - gone - 1].set_text(absl::StrCat("backend ", finding.last_named, " and ",
                                                          finding.backends - kOneByOne, " more at ",
                                                          address.ToString(), " ", what));
}

}  // namespace guideway

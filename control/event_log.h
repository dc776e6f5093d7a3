// The latest events, for people: what an operator wants to read first. Each is in the log, too.
//
// Thread contract: the control thread's.
#ifndef GUIDEWAY_CONTROL_EVENT_LOG_H_
#define GUIDEWAY_CONTROL_EVENT_LOG_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "control/api/api.pb.h"
#include "maglev/net.h"

namespace guideway {

class EventLog {
 public:
  void Add(std::string text);
  // What somebody should look after: a WARNING in the log.
  void AddWarning(std::string text);

  // «backend web/web-1 down: status 503», found out of the host at `address`; `now` is the control
  // loop's time. A host that a thousand services use fails once: what is found out of it in one
  // moment is a few events, and the last of them counts the rest.
  void AddOfHost(const IpAddress& address, absl::Duration now, const std::string& backend,
                 const std::string& what);
  // The next finding about this host is news, whatever it is.
  void ForgetHost(const IpAddress& address) { findings_.erase(address); }

  // Oldest first, at most 100.
  const std::deque<api::Event>& events() const { return events_; }

 private:
  // What was found out of a host last.
  struct Finding {
    std::string what;
    absl::Duration time;
    uint64_t event = 0;  // number of the last one of it: told_ when it was told
    std::string last_named;
    size_t backends = 0;
  };

  void Append(std::string text);

  std::deque<api::Event> events_;
  uint64_t told_ = 0;                                 // those that have left `events_` included
  absl::flat_hash_map<IpAddress, Finding> findings_;  // by its address; of the last moments alone
};

}  // namespace guideway

#endif  // GUIDEWAY_CONTROL_EVENT_LOG_H_

// Random traffic for the packet path: a configuration, Snapshots that change, and packets that have
// to do with each other, made step by step beside the plain model (plain_path.h), whose outcomes
// they are then held against. For tests and for fuzzers: where the choices come from is the
// caller's.
#ifndef GUIDEWAY_TESTS_SUPPORT_RANDOM_TRAFFIC_H_
#define GUIDEWAY_TESTS_SUPPORT_RANDOM_TRAFFIC_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "maglev/snapshot.h"
#include "tests/support/plain_path.h"

namespace guideway::testing {

// Every so often the interface takes no more, and a packet that was to be sent is dropped: those
// with such numbers.
inline bool IsTaken(uint64_t number) { return number % 101 != 97; }

// A number below n, which is at least 1.
using Choose = std::function<uint32_t(uint32_t n)>;

struct TrafficOptions {
  int batches = 40;
  uint32_t largest_batch = 32;
  // Held fragments come again when the burst is over that their first one came in. Leaves out what
  // may then have become different: path MTUs, a reply that is one too many, and another packet's
  // first fragment that bears the same name.
  bool is_for_any_burst_size = false;
};

// Packets that come at one moment, under one Snapshot.
struct Batch {
  struct Packet {
    Bytes frame;
    bool ip_checksum_good;
  };
  uint64_t now;
  std::shared_ptr<const Snapshot> snapshot;
  bool sweeps = false;  // the flow table, before
  std::vector<Packet> packets;
};

// What the packets of a run met: «verdict forward», «reason malformed», «gue 4in6», «released», …
using Seen = std::map<std::string, uint64_t>;

struct Traffic {
  std::vector<Batch> batches;
  // By number of the packet, counted over all batches. Held ones have the outcome they came to.
  std::vector<PlainOutcome> outcomes;
};
Traffic MakeTraffic(const Choose& choose, const TrafficOptions& options, Seen& seen);

// A Snapshot with a service of each kind, the same every time.
std::shared_ptr<const Snapshot> RichSnapshot();

// The real path, one worker's. What it does that no packet path may (counters that do not add up, a
// packet held twice, a byte written outside its frame) is in error() from then on.
class RealPath {
 public:
  RealPath();
  ~RealPath();

  // Handles the packets in bursts of at most `burst_size`, and what they release. `number` is the
  // first one's. Outcomes in the order in which they came to be, those of held packets twice.
  std::vector<std::pair<uint64_t, PlainOutcome>> Send(const std::vector<Batch::Packet>& packets,
                                                      uint64_t number, uint32_t burst_size,
                                                      const Snapshot& snapshot, uint64_t now);
  // Lets held fragments go whose time is up, or all.
  std::vector<std::pair<uint64_t, PlainOutcome>> Release(bool all, const Snapshot& snapshot,
                                                         uint64_t now);
  void Sweep(const Snapshot& snapshot, uint64_t now);
  const std::string& error() const { return error_; }

 private:
  struct State;
  using Outcomes = std::vector<std::pair<uint64_t, PlainOutcome>>;
  void Run(const Snapshot& snapshot, uint64_t now, Outcomes& outcomes);
  void Check(bool holds, const char* what) {
    if (!holds && error_.empty()) error_ = what;
  }

  std::unique_ptr<State> state_;
  std::string error_;
};

// The real path's outcomes of the same batches, each in bursts of at most `burst_size`, as in
// Traffic. `error`: RealPath's.
std::vector<PlainOutcome> RunTraffic(const std::vector<Batch>& batches, uint32_t burst_size,
                                     std::string& error);

// Runs traffic through the real path and compares. Empty, or what differs.
std::string CompareWithModel(const Traffic& traffic);
// Empty if both are the same, but for the identifications of outer packets that may be fragmented.
std::string CompareButIdentifications(const Traffic& traffic, const std::vector<PlainOutcome>& one,
                                      const std::vector<PlainOutcome>& other);

}  // namespace guideway::testing

#endif  // GUIDEWAY_TESTS_SUPPORT_RANDOM_TRAFFIC_H_

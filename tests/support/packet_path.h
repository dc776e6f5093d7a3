// The packet path for tests: frames in, outcomes out. After every burst it holds the law of the
// counters to account: received = forwarded + replied + punted + dropped.
#ifndef GUIDEWAY_TESTS_SUPPORT_PACKET_PATH_H_
#define GUIDEWAY_TESTS_SUPPORT_PACKET_PATH_H_

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "dataplane/packet/pipeline.h"
#include "tests/support/packet_builder.h"

namespace guideway::testing {

// What became of one packet.
struct Outcome {
  Verdict verdict = Verdict::kDrop;
  Reason reason = Reason::kMalformed;  // of a drop
  bool held = false;                   // no verdict yet
  FlowLookup lookup = FlowLookup::kNone;
  std::string service, backend;  // bare names; empty: none
  std::vector<Bytes> frames;     // what was sent

  // The only frame; empty if there are none or several.
  Bytes frame() const { return frames.size() == 1 ? frames[0] : Bytes(); }
  // «forward», «drop malformed», «held».
  std::string text() const {
    if (held) return "held";
    std::string text(kVerdictInfo[static_cast<size_t>(verdict)].name);
    if (verdict == Verdict::kDrop) {
      absl::StrAppend(&text, " ", kReasonInfo[static_cast<size_t>(reason)].name);
    }
    return text;
  }
  std::string flow() const {
    return lookup == FlowLookup::kNew ? "new" : lookup == FlowLookup::kHit ? "hit" : "none";
  }
};

// A pipeline with its surroundings, the first of so many workers; time is what a test sets.
class Path {
 public:
  explicit Path(std::shared_ptr<const Snapshot> snapshot, size_t flow_entries = 1024,
                size_t workers = 1)
      : shared_(workers, flow_entries, PageSize::kLazy),
        snapshot_(std::move(snapshot)),
        pipeline_(shared_, 0) {
    shared_.Prepare(*snapshot_);
  }

  // Sends the frames as one burst. Held fragments that come again because of it are in released().
  std::vector<Outcome> Send(const std::vector<Bytes>& frames, bool ip_checksum_good = false) {
    auto burst = std::make_unique<Burst>();
    std::vector<Bytes> buffers;
    burst->size = static_cast<uint32_t>(frames.size());
    for (uint32_t i = 0; i < burst->size; ++i) {
      // With bytes around it that must not matter, and whose change ASan or the last check sees.
      buffers.emplace_back(Frame::kHeadroom, 0xee);
      buffers[i].insert(buffers[i].end(), frames[i].begin(), frames[i].end());
    }
    for (uint32_t i = 0; i < burst->size; ++i) {
      burst->packets[i].frame = {.data = buffers[i].data() + Frame::kHeadroom,
                                 .length = static_cast<uint32_t>(frames[i].size()),
                                 .interface = 7,
                                 .ip_checksum_good = ip_checksum_good,
                                 .was_handed_over = true,  // this is the worker that owns it
                                 .number = next_number_++};
    }
    std::vector<Outcome> outcomes;
    Run(*burst, [&](uint64_t, Outcome outcome) { outcomes.push_back(std::move(outcome)); });
    TakeHeld(false);
    return outcomes;
  }
  Outcome Send(const Bytes& frame, bool ip_checksum_good = false) {
    return Send(std::vector<Bytes>{frame}, ip_checksum_good)[0];
  }

  // Lets held fragments go whose time is up, or all.
  void TakeHeld(bool all) {
    auto burst = std::make_unique<Burst>();
    while (pipeline_.TakeHeld(now_ns(), all, *burst)) {
      Run(*burst, [&](uint64_t number, Outcome outcome) {
        EXPECT_FALSE(outcome.held) << "held a second time";
        released_[number] = std::move(outcome);
      });
    }
  }
  // Of held packets, by the number of the packet (from 0, over all that was sent).
  std::map<uint64_t, Outcome>& released() { return released_; }

  void Use(std::shared_ptr<const Snapshot> snapshot) {
    snapshot_ = std::move(snapshot);
    shared_.Prepare(*snapshot_);
  }
  void Sweep(size_t lines) { pipeline_.Sweep(*snapshot_, now_ns(), lines); }
  void SweepAll() { Sweep(pipeline_.flows().lines()); }

  Ticks now = 1000;
  Nanoseconds now_ns() const { return now * (kSecond / kTicksPerSecond) + nanoseconds; }
  Nanoseconds nanoseconds = 0;  // beside `now`
  const WorkerCounters& counters() const { return shared_.counters(0); }
  WorkerCounters& other_worker() { return shared_.counters(1); }
  FlowTable& other_flows() { return shared_.flows(1); }
  SharedState& shared() { return shared_; }
  const Pipeline& pipeline() const { return pipeline_; }

 private:
  template <typename Report>
  void Run(Burst& burst, Report report) {
    pipeline_.Process(*snapshot_, now_ns(), burst);
    pipeline_.Account(burst);
    auto extra = burst.extras.begin();
    for (uint32_t i = 0; i < burst.size; ++i) {
      Outcome outcome;
      outcome.held = burst.packets[i].held;
      decided_ += burst.packets[i].IsDecided() ? 1 : 0;
      outcome.verdict = burst.packets[i].verdict;
      outcome.reason = burst.packets[i].reason;
      outcome.lookup = burst.packets[i].lookup;
      const Service* service = burst.ServiceOf(burst.packets[i]);
      if (service != nullptr) outcome.service = service->name;
      const Backend* backend = burst.BackendOf(burst.packets[i]);
      if (backend != nullptr) outcome.backend = backend->name;
      if (burst.packets[i].IsSent()) {
        const Frame& frame = burst.packets[i].frame;
        outcome.frames.emplace_back(frame.data, frame.data + frame.length);
        EXPECT_EQ(frame.interface, 0) << "leaves by the next hop's interface";
      }
      for (; extra != burst.extras.end() && extra->packet == i; ++extra) {
        EXPECT_TRUE(burst.packets[i].IsSent()) << "fragments of a packet that is not sent";
        outcome.frames.emplace_back(extra->data, extra->data + extra->length);
      }
      report(burst.packets[i].frame.number, std::move(outcome));
    }
    EXPECT_TRUE(extra == burst.extras.end()) << "extras in the order of their packets";
    const PacketCounts counts = counters().packet_counts();
    EXPECT_EQ(counts.received, decided_) << "conservation";
    EXPECT_TRUE(counts.AddUp()) << "conservation";
  }

  SharedState shared_;
  std::shared_ptr<const Snapshot> snapshot_;
  Pipeline pipeline_;
  std::map<uint64_t, Outcome> released_;
  uint64_t next_number_ = 0;
  uint64_t decided_ = 0;
};

}  // namespace guideway::testing

#endif  // GUIDEWAY_TESTS_SUPPORT_PACKET_PATH_H_

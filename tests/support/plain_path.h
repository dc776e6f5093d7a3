// The packet path once more, as slow and as plain as it can be: one packet at a time, bytes in
// vectors, connections in a map, every header and checksum of a frame made anew. What the real one
// is held against on random packets (random_traffic.h).
//
// Written from the contract, not from dataplane/packet/. What the contract leaves to the product is
// marked «left to us» where it stands; there the two must agree on a free choice.
//
// Not modelled: a flow table that is full, schedulers other than the hash, several workers.
#ifndef GUIDEWAY_TESTS_SUPPORT_PLAIN_PATH_H_
#define GUIDEWAY_TESTS_SUPPORT_PLAIN_PATH_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "dataplane/counters.h"
#include "dataplane/packet/burst.h"  // FlowLookup
#include "maglev/flow_hash.h"
#include "maglev/snapshot.h"
#include "tests/support/packet_builder.h"

namespace guideway::testing {

// What became of one packet.
struct PlainOutcome {
  bool held = false;  // no verdict yet; the rest says nothing
  Verdict verdict = Verdict::kDrop;
  Reason reason = Reason::kMalformed;  // of a drop
  std::string service, backend;        // bare names; empty: none
  FlowLookup flow = FlowLookup::kNone;
  std::vector<Bytes> frames;  // what is sent, in order
  uint16_t interface = 0;     // … and by which interface

  // «forward web/web-1 new, 2 frames by 0».
  std::string ToString() const;
  friend bool operator==(const PlainOutcome&, const PlainOutcome&) = default;
};

class PlainPath {
 public:
  // What comes of one frame. Moments, in nanoseconds, never run back.
  PlainOutcome Handle(const Bytes& frame, bool ip_checksum_good, uint64_t number,
                      const Snapshot& snapshot, uint64_t now);

  // What comes of fragments that waited and now wait no longer, oldest first, by their numbers.
  std::vector<std::pair<uint64_t, PlainOutcome>> Release(bool all, const Snapshot& snapshot,
                                                         uint64_t now);

  // Forgets connections that are timed out or whose backend has left.
  void Sweep(const Snapshot& snapshot, uint64_t now);

 private:
  friend class PlainStep;  // one packet's way

  enum class State { kHandshake, kEstablished, kClosing, kUdp };
  struct Connection {
    BackendId backend;
    State state;
    bool unconfirmed;
    uint64_t touched;  // in ticks
  };
  // What became of a first fragment.
  struct Fate {
    uint64_t since;
    PlainOutcome outcome;            // of a drop or a punt
    BackendId backend = kNoBackend;  // of what went to a backend, or came from one
    FlowHash hash = {};
  };
  // A later fragment that waits for its first one.
  struct Held {
    std::string of;  // what names the packet that it is a part of
    uint64_t since;
    uint64_t number;
    Bytes frame;
    bool ip_checksum_good;
    bool is_ready;
  };
  // A bucket that leaks.
  struct Limit {
    uint64_t backlog_ns = 0;
    uint64_t since = 0;
    bool Take(uint64_t per_second, uint64_t now);
    void Charge(uint64_t per_second, uint64_t now);
  };
  struct PathMtu {
    uint32_t mtu;
    uint64_t learned;  // in ticks
  };

  std::map<std::string, Connection> connections_;  // by the bytes of their FlowKey
  std::map<std::string, Fate> fates_;              // by what names the packet
  std::vector<Held> held_;                         // oldest first
  std::map<ServiceId, Limit> new_flows_;
  Limit replies_, errors_;
  std::map<IpAddress, PathMtu> path_mtus_;
  uint32_t identification_ = 0;
};

}  // namespace guideway::testing

#endif  // GUIDEWAY_TESTS_SUPPORT_PLAIN_PATH_H_

// The fragments of one packet go the same way, though only the first says which: the fate of first
// fragments, and the later ones that came before them.
//
//   fates   4096 in sets of four, by a hash of source, destination, protocol and identification
//   held    copies of up to 256 later fragments, each for at most half a second
//
// A first fragment leaves its fate (a backend, a drop, a punt) for those that follow. It is forgotten
// after 15 seconds (RFC 791 has a receiver wait that long), or by a sweep when the backend has left.
// A later fragment without a fate is copied and kept back; when its first one has come, or its time is up,
// or its place is needed, it comes again as if it had just been received, and is not kept a second
// time. So there is no guess, and what a flood of fragments can fill is bounded.
//
// One worker's; not to be shared between threads. Everything is allocated at construction.
#ifndef GUIDEWAY_DATAPLANE_PACKET_FRAGMENTS_H_
#define GUIDEWAY_DATAPLANE_PACKET_FRAGMENTS_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "dataplane/packet/burst.h"
#include "dataplane/packet/clock.h"
#include "dataplane/packet/pages.h"
#include "maglev/flow_hash.h"
#include "maglev/snapshot.h"

namespace guideway {

class Fragments {
 public:
  // Largest frame that is held, in bytes: an IP packet of 9600 bytes with two VLAN tags.
  static constexpr uint32_t kMaxHeldFrame = 9622;
  static constexpr size_t kHeld = 256;
  static constexpr Nanoseconds kHoldTime = kSecond / 2;
  static constexpr Nanoseconds kFateTime = 15 * kSecond;

  // What names the packet that a fragment is of.
  struct Key {
    uint64_t low, high;  // a hash of 128 bits

    // `protocol`: of the IP header.
    static Key Of(const ParsedPacket& packet, uint8_t protocol, uint64_t seed);
    friend bool operator==(const Key&, const Key&) = default;
  };

  // What became of a first fragment.
  struct Fate {
    Verdict verdict = Verdict::kPunt;    // kForward, kDrop or kPunt
    Reason reason = Reason::kNoBackend;  // of a kDrop
    BackendId backend = kNoBackend;      // of a kForward
    FlowHash hash = {};                  // of its connection: the outer headers' entropy
  };

  Fragments();

  // The fate of the first fragment; null if it did not come lately. Valid until Remember.
  const Fate* Find(const Key& key, Nanoseconds now) const;

  // Leaves a fate for the fragments to come, and lets those go that were waiting for it.
  void Remember(const Key& key, const Fate& fate, Nanoseconds now);

  // Forgets fates of backends that have left the configuration.
  void Sweep(const Snapshot& snapshot);

  // Keeps a copy of a later fragment. False if there is no place for it.
  bool Hold(const Key& key, const Frame& frame, Nanoseconds now);

  // Moves up to Burst::kSize held fragments that wait no longer into the burst, oldest first; with
  // `all`, every one counts as such. Their frames are the table's memory, valid until the next
  // Take or Hold. False if there is none.
  bool Take(Nanoseconds now, bool all, Burst& burst);

 private:
  struct FateEntry {
    Key key;
    Nanoseconds since;
    Fate fate;
    bool used;
  };
  struct Held {
    Key key;
    Nanoseconds since;
    uint64_t order;  // of arrival
    Frame frame;
    enum class State : uint8_t { kFree, kWaiting, kReady, kTaken } state;
  };
  static constexpr size_t kFates = 4096;
  static constexpr size_t kWays = 4;
  static constexpr size_t kHeldSize = Burst::kHeadroom + kMaxHeldFrame + 10;

  FateEntry* Set(const Key& key) { return &fates_[key.low % (kFates / kWays) * kWays]; }
  const FateEntry* Set(const Key& key) const { return &fates_[key.low % (kFates / kWays) * kWays]; }

  PageArray<FateEntry> fates_;
  PageArray<uint8_t> memory_;  // of held frames
  std::array<Held, kHeld> held_;
  size_t waiting_ = 0, ready_ = 0;
  uint64_t arrivals_ = 0;
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_FRAGMENTS_H_

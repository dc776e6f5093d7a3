#include "maglev/headers.h"
#include "dataplane/packet/stages.h"

namespace guideway {
namespace {

class Following {
 public:
  Following(const Snapshot& snapshot, Nanoseconds now, Fragments& fragments, Burst& burst)
      : snapshot_(snapshot), now_(now), fragments_(fragments), burst_(burst) {}

  // A first fragment, decided or on its way: those that follow shall know. Who is denied is denied
  // without it.
  void Remember(uint8_t i, bool is_on_its_way) {
    Fragments::Fate fate;
    if (is_on_its_way) {
      fate = {.verdict = Verdict::kForward,
              .backend = burst_.backends[i]->id,
              .hash = burst_.hashes[i]};
    } else {
      // What was punted is punted whole, and where no nat is, without having to be remembered.
      fate = {.verdict = burst_.verdicts[i], .reason = burst_.reasons[i]};
      if (fate.verdict == Verdict::kPunt && !snapshot_.IsNatBackend(SourceOf(burst_.ip(i)))) {
        return;
      }
      if (fate.verdict == Verdict::kDrop && fate.reason == Reason::kAccessDenied) return;
    }
    fragments_.Remember(Key(i), fate, now_);
  }

  bool Follow(uint8_t i) {
    const Fragments::Fate* fate = fragments_.Find(Key(i), now_);
    const Backend* backend = fate == nullptr ? nullptr : snapshot_.FindBackend(fate->backend);
    // That of a backend that has left the configuration is none.
    if (fate == nullptr || (fate->verdict == Verdict::kForward && backend == nullptr)) {
      Frame& frame = burst_.frames[i];
      if (!frame.was_held && fragments_.Hold(Key(i), frame, now_)) return burst_.Hold(i);
      return burst_.directions[i] == Direction::kToBackend
                 ? burst_.Drop(i, Reason::kFragmentUnknown)
                 : burst_.Finish(i, Verdict::kPunt);
    }
    if (fate->verdict == Verdict::kDrop) return burst_.Drop(i, fate->reason);
    if (fate->verdict == Verdict::kPunt) return burst_.Finish(i, Verdict::kPunt);
    const Service* service = snapshot_.FindService(backend->service);
    // Between the two fragments an address may have become another thing.
    if (burst_.directions[i] == Direction::kFromBackend &&
        service->forwarding != Forwarding::kNat) {
      return burst_.Finish(i, Verdict::kPunt);
    }
    burst_.backends[i] = backend;
    burst_.services[i] = service;
    burst_.hashes[i] = fate->hash;
    // The answer of a nat backend, like its first part.
    if (burst_.directions[i] == Direction::kFromBackend) burst_.lookups[i] = FlowLookup::kHit;
    return true;
  }

 private:
  Fragments::Key Key(uint8_t i) const {
    // The key of an ICMP error is that of the connection it is about.
    const uint8_t protocol = burst_.quotes[i] != 0 ? kProtocolIcmp : burst_.keys[i].protocol;
    return Fragments::Key::Of(burst_.ip(i), burst_.packets[i], protocol, snapshot_.hash_seed());
  }

  const Snapshot& snapshot_;
  const Nanoseconds now_;
  Fragments& fragments_;
  Burst& burst_;
};

}  // namespace

void HandOver(const Snapshot& snapshot, uint16_t worker, size_t workers, Burst& burst) {
  if (!burst.has_fragments || workers == 1) return;
  burst.ForUndecided([&](uint8_t i) {
    if (!burst.packets[i].is_fragment || burst.frames[i].was_handed_over) return true;
    const auto key =
        Fragments::Key::Of(burst.ip(i), burst.packets[i], burst.keys[i].protocol, snapshot.hash_seed());
    const uint32_t owner = SlotOf(key.high, static_cast<uint32_t>(workers));
    return owner == worker || burst.HandOver(i, static_cast<uint16_t>(owner));
  });
}

void Follow(const Snapshot& snapshot, Nanoseconds now, Fragments& fragments, Burst& burst) {
  if (!burst.has_fragments) return;
  Following following(snapshot, now, fragments, burst);
  // In the order of arrival, over all first fragments, whatever became of them.
  uint32_t decided_up_to = 0;
  const auto remember_decided = [&](uint32_t end) {
    for (; decided_up_to < end; ++decided_up_to) {
      const ParsedPacket& packet = burst.packets[decided_up_to];
      if (packet.is_fragment && !packet.is_later_fragment && burst.IsDecided(decided_up_to)) {
        following.Remember(static_cast<uint8_t>(decided_up_to), false);
      }
    }
  };
  burst.ForUndecided([&](uint8_t i) {
    remember_decided(i);
    decided_up_to = i + 1;
    const ParsedPacket& packet = burst.packets[i];
    if (!packet.is_fragment) return true;
    if (packet.is_later_fragment) return following.Follow(i);
    following.Remember(i, true);
    return true;
  });
  remember_decided(burst.size);
}

}  // namespace guideway

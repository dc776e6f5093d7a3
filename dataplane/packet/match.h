// What one packet has to do with us (stages.h, Match).
#ifndef GUIDEWAY_DATAPLANE_PACKET_MATCH_H_
#define GUIDEWAY_DATAPLANE_PACKET_MATCH_H_

#include "dataplane/packet/burst.h"
#include "maglev/flow_hash.h"
#include "maglev/snapshot.h"

namespace guideway {

// Matches packets of one burst, whose memory it remembers.
class Matcher {
 public:
  explicit Matcher(const Snapshot& snapshot)
      : snapshot_(snapshot), has_access_(snapshot.has_access()) {}

  // False if that decides the packet.
  bool Match(Packet& p);

 private:
  struct Quote;

  bool IsRefused(Packet& p) const;
  bool GiveTo(Packet& p, const Vip::Served* served) const;
  bool MatchUnusual(Packet& p, const Vip& vip) const;
  bool MatchIcmpToVip(Packet& p, const Vip& vip) const;
  bool MatchErrorToVip(Packet& p, const Vip& vip, const Quote& quote) const;
  bool MatchService(Packet& p, const Vip& vip) const;
  bool MatchFromBackend(Packet& p) const;
  bool MatchErrorAboutOurs(Packet& p) const;
  bool Answer(Packet& p, const Backend* backend) const;
  static bool ReadQuote(const uint8_t* ip, const ParsedPacket& packet, uint8_t version,
                        Quote& quote);

  const Snapshot& snapshot_;
  const bool has_access_;
  // Of the last packet with ports to a VIP.
  static constexpr FlowKey kNoKey = {};
  const FlowKey* last_ = &kNoKey;
  const Vip::Served* last_served_ = nullptr;
};

}  // namespace guideway

#endif  // GUIDEWAY_DATAPLANE_PACKET_MATCH_H_

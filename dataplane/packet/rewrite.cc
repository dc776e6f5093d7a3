#include "dataplane/packet/rewrite.h"

#include <algorithm>

#include "dataplane/packet/encapsulate.h"
#include "dataplane/packet/parse.h"
#include "dataplane/packet/stages.h"
#include "maglev/headers.h"

namespace guideway {
namespace {

constexpr uint32_t kLeastIpv6Mtu = 1280;  // RFC 8200, section 5

// Whether an error may be sent there: not to the zero address, a loopback address or class E (RFC
// 1122, section 3.2.2; RFC 4443, section 2.4). Multicast is malformed.
bool IsSingleHost(const IpAddress& address) {
  if (address.is_loopback()) return false;
  if (address.is_v4()) return address.bytes()[0] != 0 && address.bytes()[0] < 240;
  const uint8_t zero[16] = {};
  return std::memcmp(address.bytes(), zero, sizeof(zero)) != 0;
}

class Rewriting {
 public:
  Rewriting(const Snapshot& snapshot, Nanoseconds now, PathMtus& path_mtus, RewriteState& state,
            const Burst& burst)
      : snapshot_(snapshot),
        now_(now),
        path_mtus_(path_mtus),
        state_(state),
        first_(burst.packets.data()),
        any_path_mtu_(path_mtus.any()) {}

  bool Rewrite(Packet& p) {
    switch (p.direction) {
      [[likely]] case Direction::kToBackend : return ToBackend(p);
      case Direction::kFromBackend: return FromBackend(p);
      case Direction::kToBalancer: return AnswerEcho(p);
      case Direction::kAboutTunnel: LearnPathMtu(p); break;
    }
    return p.Finish(Verdict::kPunt);
  }

 private:
  bool ToBackend(Packet& p) {
    const ParsedPacket& packet = p.parsed;
    const Adjacency& adjacency = p.per_backend->adjacency;
    const Envelope& envelope = snapshot_.EnvelopeAt(adjacency.envelope);
    const EnvelopeFacts facts = envelope.facts;
    const uint32_t outer_size = facts.outer_size();
    uint32_t mtu = facts.mtu;
    if (any_path_mtu_ && outer_size != 0) {
      mtu = path_mtus_.Limit(BackendOf(p).address, mtu, now_);
    }
    if (packet.ip_length + outer_size > mtu) return DoesNotFit(p, envelope, mtu);

    Frame& frame = p.frame;
    if (outer_size == 0) {
      if (facts.forwarding == Forwarding::kNat) {
        TranslateToBackend(adjacency, p.quote, packet, p.key, Bytes(p));
      }
      std::memcpy(frame.data, envelope.bytes.data(), Tags::kAddresses);
      std::memcpy(frame.data, &adjacency.mac, sizeof(adjacency.mac));
      frame.interface = facts.interface;
      return p.Finish(Verdict::kForward);
    }
    if (packet.ip_offset != Envelope::kEthernetSize) return IntoTunnelWithTags(p, envelope);
    const IpBytes outer = IntoTunnel(p, envelope, facts, !packet.dont_fragment);
    frame.data = outer.data - Envelope::kEthernetSize;
    frame.length = outer.length + Envelope::kEthernetSize;
    frame.interface = facts.interface;
    return p.Finish(Verdict::kForward);
  }

  [[gnu::noinline]] bool IntoTunnelWithTags(Packet& p, const Envelope& envelope) {
    const Tags tags(p.frame, p.parsed);
    const IpBytes outer = IntoTunnel(p, envelope, envelope.facts, !p.parsed.dont_fragment);
    return Send(p, Verdict::kForward, BackendOf(p).next_hop, tags, outer);
  }

  [[gnu::always_inline]] IpBytes IntoTunnel(Packet& p, const Envelope& envelope,
                                            const EnvelopeFacts facts, bool may_be_fragmented) {
    if (facts.is_ipv6) return EncapsulateInIpv6(snapshot_, p, envelope, facts, Bytes(p));
    return EncapsulateInIpv4(
        snapshot_, p, envelope, facts, p.key.version,
        may_be_fragmented ? state_.NextIdentification() & 0xffff : kNotFragmented, Bytes(p));
  }

  // Or has no way at all: its MTU is 0.
  [[gnu::noinline]] bool DoesNotFit(Packet& p, const Envelope& envelope, uint32_t mtu) {
    const ParsedPacket& packet = p.parsed;
    const Backend& backend = BackendOf(p);
    const uint32_t outer_size = envelope.facts.outer_size();
    if (!backend.next_hop.is_known()) return p.Drop(Reason::kNoNextHop);
    if (!MayBeFragmented(p, outer_size)) return TooBig(p, mtu - outer_size);
    const Tags tags(p.frame, packet);
    IpBytes bytes = Bytes(p);
    if (outer_size != 0) {
      bytes = IntoTunnel(p, envelope, envelope.facts, true);
    } else if (envelope.facts.forwarding == Forwarding::kNat) {
      TranslateToBackend(p.per_backend->adjacency, p.quote, packet, p.key, bytes);
    }
    return SendSplit(p, Verdict::kForward, backend.next_hop, mtu, tags, bytes);
  }

  [[gnu::noinline]] bool FromBackend(Packet& p) {
    const ParsedPacket& packet = p.parsed;
    const NextHop& hop = snapshot_.routes().Find(DestinationOf(p.ip()));
    if (!hop.is_known()) return p.Drop(Reason::kNoNextHop);
    if (packet.ip_length > hop.mtu && !MayBeFragmented(p, 0)) return TooBig(p, hop.mtu);
    const IpBytes bytes = Bytes(p);
    TranslateFromBackend(snapshot_.ServiceOf(p.service), BackendOf(p), p.quote, packet, p.key,
                         bytes);
    return SendSplit(p, Verdict::kForward, hop, hop.mtu, Tags(p.frame, packet), bytes);
  }

  [[gnu::noinline]] bool AnswerEcho(Packet& p) {
    const ParsedPacket& packet = p.parsed;
    const IpAddress source = SourceOf(p.ip());
    const NextHop& hop = snapshot_.routes().Find(source);
    if (!hop.is_known()) return p.Drop(Reason::kNoNextHop);
    const Tags tags(p.frame, packet);
    const uint32_t size =
        packet.transport_length() + (source.is_v4() ? sizeof(Ipv4Header) : sizeof(Ipv6Header));
    if (size > hop.mtu) return p.Drop(Reason::kTooBig);
    if (!state_.MayReplyToEcho(snapshot_.replies_per_second(), now_)) {
      return p.Drop(Reason::kRateLimited);
    }
    return SendSplit(p, Verdict::kReply, hop, hop.mtu, tags, EchoReply(packet, Bytes(p)));
  }

  // What a router says of the way to a backend counts for all packets behind this one.
  [[gnu::noinline]] void LearnPathMtu(Packet& p) {
    const ParsedPacket& packet = p.parsed;
    const IpBytes bytes = Bytes(p);
    if (HasWrongIcmpChecksum(bytes.data, packet, p.key)) return;
    const auto icmp = Read<IcmpHeader>(bytes.data + packet.transport_offset);
    const bool is_v4 = bytes.version() == 4;
    if (icmp.type != (is_v4 ? kIcmpUnreachable : kIcmpv6TooBig)) return;
    if (is_v4 && icmp.code != kIcmpFragmentationNeeded) return;
    const uint32_t mtu = uint32_t{NetworkOrder(icmp.rest[0])} << 16 | NetworkOrder(icmp.rest[1]);
    const uint8_t* quoted = bytes.data + p.quote;
    const IpAddress backend = is_v4 ? IpAddress::V4(quoted + offsetof(Ipv4Header, destination))
                                    : IpAddress::V6(quoted + offsetof(Ipv6Header, destination));
    path_mtus_.Learn(backend, is_v4 ? mtu & 0xffff : mtu, now_);
    any_path_mtu_ = path_mtus_.any();
  }

  // The sender is told that its packets may have `mtu` bytes and no more.
  bool TooBig(Packet& p, uint32_t mtu) {
    const ParsedPacket& packet = p.parsed;
    const IpAddress source = SourceOf(p.ip());
    const bool is_v4 = source.is_v4();
    // RFC 1122, section 3.2.2: not about an ICMP error, nor about a later fragment. RFC 4443 wants
    // to hear of those. Without DF it is no answer: not even fragments of it may be sent.
    const bool is_silent = IsError(p) || !IsSingleHost(source) ||
                           (is_v4 && (packet.is_later_fragment || !packet.dont_fragment));
    if (!is_v4) mtu = std::max(mtu, kLeastIpv6Mtu);
    if (is_silent || packet.ip_length <= mtu) return p.Drop(Reason::kTooBig);
    const NextHop& hop = snapshot_.routes().Find(source);
    if (!hop.is_known()) return p.Drop(Reason::kNoNextHop);
    if (!state_.MaySendError(snapshot_.replies_per_second(), now_)) {
      return p.Drop(Reason::kTooBig);
    }
    const Tags tags(p.frame, packet);
    return SendSplit(p, Verdict::kReply, hop, hop.mtu, tags, PacketTooBig(mtu, Bytes(p)));
  }

  // An IPv6 packet that every network must carry is fragmented outside, since its sender cannot be
  // told to send smaller ones (RFC 2473, section 7.1).
  bool MayBeFragmented(Packet& p, uint32_t outer_size) const {
    const ParsedPacket& packet = p.parsed;
    if (packet.ip_length + outer_size > kMaxIpLength) return false;
    if (p.key.version == 4) return !packet.dont_fragment;
    return outer_size != 0 && packet.ip_length <= kLeastIpv6Mtu;
  }

  const Backend& BackendOf(const Packet& p) const { return *snapshot_.FindBackend(p.backend); }

  bool IsError(Packet& p) const {
    const ParsedPacket& packet = p.parsed;
    // An error about a connection has the connection's key.
    return p.quote != 0 || IsIcmpError(p.key, packet.icmp_type);
  }

  IpBytes Bytes(Packet& p) const {
    const ParsedPacket& packet = p.parsed;
    return {p.frame.data + packet.ip_offset, packet.ip_length};
  }

  // What is between the addresses of Ethernet and its type, kept for what is sent.
  struct Tags {
    Tags(const Frame& frame, const ParsedPacket& packet)
        : bytes(Read<uint64_t>(frame.data + kAddresses)),
          size(packet.ip_offset - static_cast<uint32_t>(sizeof(EthernetHeader))) {}
    static constexpr uint32_t kAddresses = offsetof(EthernetHeader, type);
    uint64_t bytes;  // the first `size` of them; no more than two tags
    uint32_t size;
  };

  static void WriteEthernet(const NextHop& hop, const Tags& tags, int ip_version, uint8_t* at) {
    static_assert(offsetof(NextHop, source) - offsetof(NextHop, destination) == sizeof(MacAddress));
    std::memcpy(at, &hop.destination, Tags::kAddresses);
    at += Tags::kAddresses;
    if (tags.size != 0) std::memcpy(at, &tags.bytes, tags.size);
    Write(at + tags.size, ip_version == 4 ? kEtherTypeIpv4 : kEtherTypeIpv6);
  }

  bool Send(Packet& p, Verdict verdict, const NextHop& hop, const Tags& tags, IpBytes bytes) {
    const uint32_t link_size = static_cast<uint32_t>(sizeof(EthernetHeader)) + tags.size;
    Frame& frame = p.frame;
    uint8_t* start = bytes.data - link_size;
    WriteEthernet(hop, tags, bytes.version(), start);
    frame.data = start;
    frame.length = link_size + bytes.length;
    frame.interface = hop.interface;
    return p.Finish(verdict);
  }

  // In fragments, if need be.
  bool SendSplit(Packet& p, Verdict verdict, const NextHop& hop, uint32_t mtu, const Tags& tags,
                 IpBytes bytes) {
    if (bytes.length > mtu) {
      const uint32_t link_size = static_cast<uint32_t>(sizeof(EthernetHeader)) + tags.size;
      const RewriteState::Mark before = state_.mark();
      const uint32_t identification = bytes.version() == 6 ? state_.NextIdentification() : 0;
      bytes =
          Split(bytes, mtu, identification, link_size, static_cast<uint8_t>(&p - first_), state_);
      if (bytes.length == 0) {
        state_.BackTo(before);
        return p.Drop(Reason::kTransmitFull);
      }
      for (const ExtraFrame& extra : state_.extras().subspan(before.count)) {
        WriteEthernet(hop, tags, bytes.version(), extra.data);
      }
    }
    return Send(p, verdict, hop, tags, bytes);
  }

  const Snapshot& snapshot_;
  const Nanoseconds now_;
  PathMtus& path_mtus_;
  RewriteState& state_;
  const Packet* const first_;  // of the burst
  bool any_path_mtu_;
};

}  // namespace

void Rewrite(const Snapshot& snapshot, Nanoseconds now, PathMtus& path_mtus, RewriteState& state,
             Burst& burst) {
  state.Begin();
  Rewriting rewriting(snapshot, now, path_mtus, state, burst);
  burst.ForUndecided([&](Packet& p) { return rewriting.Rewrite(p); });
  burst.extras = state.extras();
}

}  // namespace guideway

#include "dataplane/packet/rewrite.h"

#include <algorithm>

#include "dataplane/packet/encapsulate.h"
#include "maglev/headers.h"
#include "dataplane/packet/parse.h"
#include "dataplane/packet/stages.h"

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
            Burst& burst)
      : snapshot_(snapshot),
        now_(now),
        path_mtus_(path_mtus),
        state_(state),
        burst_(burst) {}

  bool Rewrite(uint8_t i) {
    return burst_.directions[i] == Direction::kToBackend ? ToBackend(i) : RewriteOther(i);
  }

 private:
  [[gnu::noinline]] bool RewriteOther(uint8_t i) {
    switch (burst_.directions[i]) {
      case Direction::kToBackend: break;
      case Direction::kFromBackend: return FromBackend(i);
      case Direction::kToBalancer: return AnswerEcho(i);
      case Direction::kAboutTunnel: LearnPathMtu(i); break;
    }
    return burst_.Finish(i, Verdict::kPunt);
  }

  bool ToBackend(uint8_t i) {
    Burst& burst = burst_;
    const ParsedPacket& packet = burst.packets[i];
    const Backend& backend = *burst.backends[i];
    const Envelope& envelope = backend.envelope;
    const uint32_t outer_size = envelope.outer_size();
    uint32_t mtu = envelope.mtu;
    if (path_mtus_.any() && outer_size != 0) mtu = path_mtus_.Limit(backend.address, mtu, now_);
    if (packet.ip_length + outer_size > mtu) return DoesNotFit(i, mtu);

    Frame& frame = burst.frames[i];
    if (outer_size == 0) {
      if (burst.services[i]->forwarding == Forwarding::kNat) {
        TranslateToBackend(backend, burst.quotes[i], packet, burst.keys[i], Bytes(i));
      }
      std::memcpy(frame.data, envelope.bytes.data(), Tags::kAddresses);
      frame.interface = envelope.interface;
      return burst.Finish(i, Verdict::kForward);
    }
    if (packet.ip_offset != Envelope::kEthernetSize) return IntoTunnelWithTags(i);
    const IpBytes outer = IntoTunnel(i, !packet.dont_fragment);
    frame.data = outer.data - Envelope::kEthernetSize;
    frame.length += outer_size;
    frame.headroom = static_cast<uint16_t>(frame.headroom - outer_size);
    frame.interface = envelope.interface;
    return burst.Finish(i, Verdict::kForward);
  }

  [[gnu::noinline]] bool IntoTunnelWithTags(uint8_t i) {
    const Tags tags(burst_.frames[i], burst_.packets[i]);
    const IpBytes outer = IntoTunnel(i, !burst_.packets[i].dont_fragment);
    return Send(i, Verdict::kForward, burst_.backends[i]->next_hop, tags, outer);
  }

  [[gnu::always_inline]] IpBytes IntoTunnel(uint8_t i, bool may_be_fragmented) {
    Burst& burst = burst_;
    const Backend& backend = *burst.backends[i];
    OuterFragmentation fragmentation = {};
    if (may_be_fragmented && !backend.envelope.is_ipv6) {
      fragmentation = {true, static_cast<uint16_t>(state_.NextIdentification())};
    }
    return Encapsulate(*burst.services[i], backend, burst.hashes[i], fragmentation,
                       burst.packets[i], burst.keys[i], Bytes(i));
  }

  // Or has no way at all: its MTU is 0.
  [[gnu::noinline]] bool DoesNotFit(uint8_t i, uint32_t mtu) {
    const ParsedPacket& packet = burst_.packets[i];
    const Backend& backend = *burst_.backends[i];
    const uint32_t outer_size = backend.envelope.outer_size();
    if (!backend.next_hop.is_known()) return burst_.Drop(i, Reason::kNoNextHop);
    if (!MayBeFragmented(i, outer_size)) return TooBig(i, mtu - outer_size);
    const Tags tags(burst_.frames[i], packet);
    IpBytes bytes = Bytes(i);
    if (outer_size != 0) {
      bytes = IntoTunnel(i, true);
    } else if (burst_.services[i]->forwarding == Forwarding::kNat) {
      TranslateToBackend(backend, burst_.quotes[i], packet, burst_.keys[i], bytes);
    }
    return SendSplit(i, Verdict::kForward, backend.next_hop, mtu, tags, bytes);
  }

  bool FromBackend(uint8_t i) {
    const ParsedPacket& packet = burst_.packets[i];
    const NextHop& hop = snapshot_.routes().Find(DestinationOf(burst_.ip(i)));
    if (!hop.is_known()) return burst_.Drop(i, Reason::kNoNextHop);
    if (packet.ip_length > hop.mtu && !MayBeFragmented(i, 0)) return TooBig(i, hop.mtu);
    const IpBytes bytes = Bytes(i);
    TranslateFromBackend(*burst_.services[i], *burst_.backends[i], burst_.quotes[i], packet,
                         burst_.keys[i], bytes);
    return SendSplit(i, Verdict::kForward, hop, hop.mtu, Tags(burst_.frames[i], packet), bytes);
  }

  bool AnswerEcho(uint8_t i) {
    const ParsedPacket& packet = burst_.packets[i];
    const IpAddress source = SourceOf(burst_.ip(i));
    const NextHop& hop = snapshot_.routes().Find(source);
    if (!hop.is_known()) return burst_.Drop(i, Reason::kNoNextHop);
    const Tags tags(burst_.frames[i], packet);
    const uint32_t size =
        packet.transport_length() + (source.is_v4() ? sizeof(Ipv4Header) : sizeof(Ipv6Header));
    if (size > hop.mtu) return burst_.Drop(i, Reason::kTooBig);
    if (!state_.MayReplyToEcho(snapshot_.replies_per_second(), now_)) {
      return burst_.Drop(i, Reason::kRateLimited);
    }
    return SendSplit(i, Verdict::kReply, hop, hop.mtu, tags, EchoReply(packet, Bytes(i)));
  }

  // What a router says of the way to a backend counts for all packets behind this one.
  void LearnPathMtu(uint8_t i) {
    const ParsedPacket& packet = burst_.packets[i];
    const IpBytes bytes = Bytes(i);
    if (HasWrongIcmpChecksum(bytes.data, packet, burst_.keys[i])) return;
    const auto icmp = Read<IcmpHeader>(bytes.data + packet.transport_offset);
    const bool is_v4 = bytes.version() == 4;
    if (icmp.type != (is_v4 ? kIcmpUnreachable : kIcmpv6TooBig)) return;
    if (is_v4 && icmp.code != kIcmpFragmentationNeeded) return;
    const uint32_t mtu = uint32_t{NetworkOrder(icmp.rest[0])} << 16 | NetworkOrder(icmp.rest[1]);
    const uint8_t* quoted = bytes.data + burst_.quotes[i];
    const IpAddress backend = is_v4 ? IpAddress::V4(quoted + offsetof(Ipv4Header, destination))
                                    : IpAddress::V6(quoted + offsetof(Ipv6Header, destination));
    path_mtus_.Learn(backend, is_v4 ? mtu & 0xffff : mtu, now_);
  }

  // The sender is told that its packets may have `mtu` bytes and no more.
  bool TooBig(uint8_t i, uint32_t mtu) {
    const ParsedPacket& packet = burst_.packets[i];
    const IpAddress source = SourceOf(burst_.ip(i));
    const bool is_v4 = source.is_v4();
    // RFC 1122, section 3.2.2: not about an ICMP error, nor about a later fragment. RFC 4443 wants
    // to hear of those. Without DF it is no answer: not even fragments of it may be sent.
    const bool is_silent = IsError(i) || !IsSingleHost(source) ||
                           (is_v4 && (packet.is_later_fragment || !packet.dont_fragment));
    if (!is_v4) mtu = std::max(mtu, kLeastIpv6Mtu);
    if (is_silent || packet.ip_length <= mtu) return burst_.Drop(i, Reason::kTooBig);
    const NextHop& hop = snapshot_.routes().Find(source);
    if (!hop.is_known()) return burst_.Drop(i, Reason::kNoNextHop);
    if (!state_.MaySendError(snapshot_.replies_per_second(), now_)) {
      return burst_.Drop(i, Reason::kTooBig);
    }
    const Tags tags(burst_.frames[i], packet);
    return SendSplit(i, Verdict::kReply, hop, hop.mtu, tags, PacketTooBig(mtu, Bytes(i)));
  }

  // An IPv6 packet that every network must carry is fragmented outside, since its sender cannot be
  // told to send smaller ones (RFC 2473, section 7.1).
  bool MayBeFragmented(uint8_t i, uint32_t outer_size) const {
    const ParsedPacket& packet = burst_.packets[i];
    if (packet.ip_length + outer_size > kMaxIpLength) return false;
    if (burst_.keys[i].version == 4) return !packet.dont_fragment;
    return outer_size != 0 && packet.ip_length <= kLeastIpv6Mtu;
  }

  bool IsError(uint8_t i) const {
    const ParsedPacket& packet = burst_.packets[i];
    // An error about a connection has the connection's key.
    return burst_.quotes[i] != 0 || IsIcmpError(burst_.keys[i], packet.icmp_type);
  }

  IpBytes Bytes(uint8_t i) const {
    const ParsedPacket& packet = burst_.packets[i];
    return {burst_.frames[i].data + packet.ip_offset, packet.ip_length};
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

  bool Send(uint8_t i, Verdict verdict, const NextHop& hop, const Tags& tags, IpBytes bytes) {
    const uint32_t link_size = static_cast<uint32_t>(sizeof(EthernetHeader)) + tags.size;
    Frame& frame = burst_.frames[i];
    uint8_t* start = bytes.data - link_size;
    WriteEthernet(hop, tags, bytes.version(), start);
    frame.headroom = static_cast<uint16_t>(frame.headroom - (frame.data - start));
    frame.data = start;
    frame.length = link_size + bytes.length;
    frame.interface = hop.interface;
    return burst_.Finish(i, verdict);
  }

  // In fragments, if need be.
  bool SendSplit(uint8_t i, Verdict verdict, const NextHop& hop, uint32_t mtu, const Tags& tags,
                 IpBytes bytes) {
    if (bytes.length > mtu) {
      const uint32_t link_size = static_cast<uint32_t>(sizeof(EthernetHeader)) + tags.size;
      const RewriteState::Mark before = state_.mark();
      const uint32_t identification = bytes.version() == 6 ? state_.NextIdentification() : 0;
      bytes = Split(bytes, mtu, identification, link_size, i, state_);
      if (bytes.length == 0) {
        state_.BackTo(before);
        return burst_.Drop(i, Reason::kTransmitFull);
      }
      for (const ExtraFrame& extra : state_.extras().subspan(before.count)) {
        WriteEthernet(hop, tags, bytes.version(), extra.data);
      }
    }
    return Send(i, verdict, hop, tags, bytes);
  }

  const Snapshot& snapshot_;
  const Nanoseconds now_;
  PathMtus& path_mtus_;
  RewriteState& state_;
  Burst& burst_;
};

}  // namespace

void Rewrite(const Snapshot& snapshot, Nanoseconds now, PathMtus& path_mtus, RewriteState& state,
             Burst& burst) {
  state.Begin();
  Rewriting rewriting(snapshot, now, path_mtus, state, burst);
  burst.DecideAll([&](uint8_t i) { rewriting.Rewrite(i); });
  burst.extras = state.extras();
}

}  // namespace guideway

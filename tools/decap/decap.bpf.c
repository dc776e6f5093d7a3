// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only OR BSD-2-Clause
//
// Takes the tunnel headers off what a Guideway balancer sends to this backend: IP in IP, GRE, and
// GUE, IPv4 and IPv6 in either of the two. A tc classifier in direct-action mode, for the ingress
// of the device that faces the balancers; the minor number of the filter's class is GUE's UDP port.
//
// A packet is decapsulated when all of this is so:
//   - it came to this host's own MAC address,
//   - its outer destination is an address of this host, so that tunnels in transit stay whole,
//   - its inner destination is an address of this host too: the VIP. So nobody reaches a third
//     party through this host, and a tunnel of its own (tunl0, Calico) gets its packets untouched.
// What is not for this program goes on unchanged; after it the kernel sees the packet as the client
// sent it, arriving on the same device.
//
// The helper that asks for a route is for GPL-compatible programs only, hence the licence line; a
// kernel that loads this needs no other part of Guideway.

// <linux/bpf.h> has the types that the bpf/ headers want.
// clang-format off
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
// clang-format on

#define ADDRESS_FAMILY_INET 2  // AF_INET; <sys/socket.h> is not for BPF
#define ADDRESS_FAMILY_INET6 10
#define FRAGMENT_MASK 0x3fff  // more fragments, and the offset
#define ECN_MASK 3
#define ECN_CE 3  // congestion experienced
#define NOT_IP 0  // no EtherType

// What there is to know of an IP packet.
struct ip {
  __u32 payload;     // where it starts, in bytes from the frame's start
  __u16 ether_type;  // in network order
  __u8 protocol;     // of the payload, IPPROTO_…
  __u8 ecn;          // what it says of congestion
  bool is_fragment;
  struct bpf_fib_lookup route;  // the question where it goes
};

// The 4 bytes of GRE without a checksum, a key or a sequence number (RFC 2784).
struct gre {
  __be16 flags_and_version;
  __be16 protocol;
};

// The first 4 bytes of GUE; all there is as long as there are no options.
struct gue {
  __u8 version_and_length;
  __u8 protocol;
  __be16 flags;
};

static __always_inline bool Load(struct __sk_buff* skb, __u32 offset, void* to, __u32 size) {
  return bpf_skb_load_bytes(skb, offset, to, size) == 0;
}

static __always_inline bool ReadIpv4(struct __sk_buff* skb, __u32 offset, struct ip* ip) {
  struct iphdr header;
  if (!Load(skb, offset, &header, sizeof(header))) return false;
  if (header.version != 4 || header.ihl < 5) return false;
  ip->payload = offset + header.ihl * 4;
  ip->ether_type = bpf_htons(ETH_P_IP);
  ip->protocol = header.protocol;
  ip->ecn = header.tos & ECN_MASK;
  ip->is_fragment = (header.frag_off & bpf_htons(FRAGMENT_MASK)) != 0;
  ip->route.family = ADDRESS_FAMILY_INET;
  ip->route.ipv4_src = header.saddr;
  ip->route.ipv4_dst = header.daddr;
  return true;
}

// A balancer puts no extension headers in front of its packets, save that of a fragment.
static __always_inline bool ReadIpv6(struct __sk_buff* skb, __u32 offset, struct ip* ip) {
  struct ipv6hdr header;
  if (!Load(skb, offset, &header, sizeof(header)) || header.version != 6) return false;
  ip->payload = offset + sizeof(header);
  ip->ether_type = bpf_htons(ETH_P_IPV6);
  ip->protocol = header.nexthdr;
  ip->ecn = header.flow_lbl[0] >> 4 & ECN_MASK;
  ip->is_fragment = header.nexthdr == IPPROTO_FRAGMENT;
  ip->route.family = ADDRESS_FAMILY_INET6;
  __builtin_memcpy(ip->route.ipv6_src, &header.saddr, sizeof(header.saddr));
  __builtin_memcpy(ip->route.ipv6_dst, &header.daddr, sizeof(header.daddr));
  return true;
}

// False if that is not what begins at `offset`.
static __always_inline bool ReadIp(struct __sk_buff* skb, __be16 ether_type, __u32 offset,
                                   struct ip* ip) {
  if (ether_type == bpf_htons(ETH_P_IP)) return ReadIpv4(skb, offset, ip);
  if (ether_type == bpf_htons(ETH_P_IPV6)) return ReadIpv6(skb, offset, ip);
  return false;
}

// Whether this host takes a packet for itself, as opposed to passing it on. A host that forwards
// nothing on this device drops by itself what is not its own.
static __always_inline bool IsForThisHost(struct __sk_buff* skb, struct ip* ip) {
  ip->route.ifindex = skb->ifindex;
  const long answer = bpf_fib_lookup(skb, &ip->route, sizeof(ip->route), 0);
  return answer == BPF_FIB_LKUP_RET_NOT_FWDED || answer == BPF_FIB_LKUP_RET_FWD_DISABLED;
}

static __always_inline __be16 EtherTypeOf(__u8 protocol) {
  if (protocol == IPPROTO_IPIP) return bpf_htons(ETH_P_IP);
  if (protocol == IPPROTO_IPV6) return bpf_htons(ETH_P_IPV6);
  return NOT_IP;
}

// Finds the packet in a tunnel packet: its type, and in `*offset` where it begins. NOT_IP if it is
// none, or has something in its headers that no balancer writes.
static __always_inline __be16 FindInner(struct __sk_buff* skb, const struct ip* outer,
                                        __u32* offset) {
  *offset = outer->payload;
  if (outer->protocol == IPPROTO_GRE) {
    struct gre gre;
    if (!Load(skb, *offset, &gre, sizeof(gre)) || gre.flags_and_version != 0) return NOT_IP;
    *offset += sizeof(gre);
    return gre.protocol;
  }
  if (outer->protocol == IPPROTO_UDP) {
    struct {
      struct udphdr udp;
      struct gue gue;
    } headers;
    if (!Load(skb, *offset, &headers, sizeof(headers))) return NOT_IP;
    if (headers.udp.dest != bpf_htons(TC_H_MIN(skb->tc_classid))) return NOT_IP;
    if (headers.gue.version_and_length != 0 || headers.gue.flags != 0) return NOT_IP;
    *offset += sizeof(headers);
    return EtherTypeOf(headers.gue.protocol);
  }
  return EtherTypeOf(outer->protocol);
}

// Cuts out what is between Ethernet and the inner packet.
static __always_inline bool TakeOff(struct __sk_buff* skb, const struct ip* outer,
                                    const struct ip* inner, __s32 size) {
  if (inner->ether_type != outer->ether_type) {
    // The kernel keeps account of which of the two it is. This makes the outer header one of the
    // other kind, in length at least, which is all that matters of it now.
    const __s32 larger = (__s32)sizeof(struct ipv6hdr) - (__s32)sizeof(struct iphdr);
    if (bpf_skb_change_proto(skb, inner->ether_type, 0) != 0) return false;
    size += inner->ether_type == bpf_htons(ETH_P_IPV6) ? larger : -larger;
    bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto), &inner->ether_type,
                        sizeof(inner->ether_type), 0);
  }
  // The segment size of a packet that GRO put together is that of the inner packets: keep it.
  return bpf_skb_adjust_room(skb, -size, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO) == 0;
}

SEC("tc")
int guideway_decap(struct __sk_buff* skb) {
  if (skb->pkt_type != PACKET_HOST) return TC_ACT_OK;

  // A fragment of a tunnel packet is left alone: it can only be decapsulated once it is whole.
  struct ip outer = {}, inner = {};
  if (!ReadIp(skb, skb->protocol, ETH_HLEN, &outer) || outer.is_fragment) return TC_ACT_OK;
  __u32 offset;
  const __be16 ether_type = FindInner(skb, &outer, &offset);
  if (!ReadIp(skb, ether_type, offset, &inner)) return TC_ACT_OK;
  if (!IsForThisHost(skb, &outer) || !IsForThisHost(skb, &inner)) return TC_ACT_OK;

  if (!TakeOff(skb, &outer, &inner, offset - ETH_HLEN)) return TC_ACT_SHOT;
  // RFC 6040: congestion seen on the way through the tunnel is told to the inner packet; one that
  // cannot be told is dropped.
  if (outer.ecn == ECN_CE && bpf_skb_ecn_set_ce(skb) == 0) return TC_ACT_SHOT;
  return TC_ACT_OK;
}

char decap_license[] SEC("license") = "Dual BSD/GPL";

#include "tools/top.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace guideway {
namespace {

using testing::AllOf;
using testing::ContainsRegex;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// A daemon that serves one service on two backends, at its time `seconds`. Nothing has been
// counted.
TopLook Look(double seconds) {
  TopLook look;
  look.status.set_state("serving");
  look.status.set_version("test");
  look.status.set_pid(7);
  look.status.set_revision(3);
  api::Worker* worker = look.status.add_workers();
  worker->set_core(1);
  worker->set_flow_capacity(1000);
  worker->set_rounds(static_cast<uint64_t>(1000 * seconds));
  api::Interface* interface = look.status.add_interfaces();
  interface->set_name("uplink");
  interface->set_link_up(true);
  api::Service* service = look.services.add_services();
  service->set_name("web");
  service->set_backends(2);
  service->set_backends_up(2);
  for (const char* name : {"a", "b"}) {
    api::Backend* backend = look.backends.add_backends();
    backend->set_service("web");
    backend->set_name(name);
    backend->set_state("up");
    backend->set_health("ok");
  }
  look.status.set_uptime_seconds(seconds);
  look.services.set_uptime_seconds(seconds);
  look.backends.set_uptime_seconds(seconds);
  return look;
}

std::vector<std::string> LinesOf(const std::string& text) {
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  EXPECT_EQ(lines.back(), "") << "a line feed ends it";
  lines.pop_back();
  return lines;
}

std::string Show(const TopLook& before, const TopLook& now, const Terminal& terminal = {},
                 TopOrder order = TopOrder::kTraffic) {
  return LayOut(now.status, MakeTop(before, now), order, terminal, terminal.height > 0);
}

// Of so many services, each with so many backends; nobody has traffic.
TopLook Many(double seconds, int services, int backends) {
  TopLook look = Look(seconds);
  look.services.clear_services();
  look.backends.clear_backends();
  for (int s = 0; s < services; ++s) {
    api::Service* service = look.services.add_services();
    service->set_name(absl::StrCat("service-", s));
    service->set_backends(static_cast<uint32_t>(backends));
    service->set_backends_up(static_cast<uint32_t>(backends));
    for (int b = 0; b < backends; ++b) {
      api::Backend* backend = look.backends.add_backends();
      backend->set_service(service->name());
      backend->set_name(absl::StrCat("backend-", b));
      backend->set_state("up");
    }
  }
  return look;
}

TEST(Top, RatesAreByTheDaemonsClock) {
  TopLook before = Look(10), now = Look(12);
  now.status.mutable_packets()->set_received(200);
  now.status.mutable_packets()->set_forwarded(190);
  now.status.mutable_packets()->set_dropped(10);
  (*before.status.mutable_packets()->mutable_drops())["malformed"] = 0;
  (*now.status.mutable_packets()->mutable_drops())["malformed"] = 10;
  api::Worker* worker = now.status.mutable_workers(0);
  worker->mutable_packets()->set_received(200);
  worker->set_busy_seconds(0.5);
  worker->set_idle_seconds(1.5);
  worker->set_flows(100);
  now.status.mutable_interfaces(0)->set_received_packets(220);
  api::Service* service = now.services.mutable_services(0);
  service->set_packets(190);
  service->set_bytes(1000);
  service->set_new_flows(8);
  service->set_active_flows(5);
  // A list that was made later has another time to count by.
  now.backends.set_uptime_seconds(14);
  now.backends.mutable_backends(1)->set_packets(400);

  const api::Top top = MakeTop(before, now);
  EXPECT_EQ(top.interval_seconds(), 2);
  EXPECT_EQ(top.packets_per_second().received(), 100);
  EXPECT_EQ(top.packets_per_second().dropped(), 5);
  EXPECT_EQ(top.drops_per_second().at("malformed"), 5);
  EXPECT_EQ(top.workers(0).busy(), 0.25);
  EXPECT_EQ(top.workers(0).fill(), 0.1);
  EXPECT_EQ(top.interfaces(0).received_per_second(), 110);
  EXPECT_EQ(top.services(0).packets_per_second(), 95);
  EXPECT_EQ(top.bits_per_second(), 4000);
  EXPECT_EQ(top.new_flows_per_second(), 4);
  EXPECT_EQ(top.active_flows(), 5u);
  EXPECT_EQ(top.backends(1).packets_per_second(), 100);
  EXPECT_THAT(top.problems(), IsEmpty());
  EXPECT_THAT(top.notes(), ElementsAre("5.0/s dropped: 5.0 malformed"));
}

TEST(Top, NoRatesBetweenTwoProcesses) {
  TopLook before = Look(100), now = Look(101);
  now.status.set_pid(8);
  now.services.mutable_services(0)->set_packets(1000);
  EXPECT_EQ(MakeTop(before, now).interval_seconds(), 0);
  EXPECT_EQ(MakeTop(before, now).services(0).packets_per_second(), 0);
  EXPECT_EQ(MakeTop(TopLook(), now).interval_seconds(), 0) << "the first look";
  // The same pid again, as in a container.
  now = Look(3);
  now.services.mutable_services(0)->set_packets(1000);
  EXPECT_EQ(MakeTop(before, now).interval_seconds(), 0);
  EXPECT_THAT(Show(before, now), HasSubstr("counted from now on"));
}

TEST(Top, WhatIsNewOrCountsAnewHasNoRate) {
  TopLook before = Look(10), now = Look(11);
  api::Backend* added = now.backends.add_backends();
  added->set_name("c");
  added->set_packets(1000000);
  before.backends.mutable_backends(0)->set_packets(500);
  now.backends.mutable_backends(0)->set_packets(20);
  const api::Top top = MakeTop(before, now);
  EXPECT_EQ(top.backends(0).packets_per_second(), 0);
  EXPECT_EQ(top.backends(2).packets_per_second(), 0);
}

TEST(Top, WhatIsWrongStandsFirst) {
  TopLook before = Look(10), now = Look(11);
  now.status.set_state("stopping");
  api::Refusal* refused = now.status.mutable_refused();
  refused->set_time("2026-01-02T03:04:05.678Z");
  refused->set_age_seconds(123.4);
  refused->set_who("root");
  refused->set_how("apply");
  refused->set_file("a.yaml");
  refused->set_why("a.yaml:1:2: nonsense\na.yaml:3:1: more");
  now.status.mutable_interfaces(0)->set_link_up(false);
  now.status.mutable_interfaces(0)->set_missed(12);
  now.status.mutable_workers(0)->set_rounds(before.status.workers(0).rounds());
  now.status.mutable_workers(0)->set_busy_seconds(1);
  now.status.mutable_workers(0)->set_flows(950);
  now.status.mutable_workers(0)->set_flows_not_stored(3);
  (*before.status.mutable_packets()->mutable_drops())["no_backend"] = 0;
  (*now.status.mutable_packets()->mutable_drops())["no_backend"] = 70;
  now.services.mutable_services(0)->set_backends_up(0);
  now.backends.mutable_backends(0)->set_state("down");
  now.backends.mutable_backends(0)->set_health("connection refused");
  now.backends.mutable_backends(1)->set_state("drain");
  now.backends.mutable_backends(1)->set_drained_by_hand(true);
  now.backends.mutable_backends(1)->set_weight_by_hand(true);
  now.backends.mutable_backends(1)->set_file_weight(100);
  now.status.add_warnings("a secret");
  now.status.mutable_history()->set_directory("/there");
  now.status.mutable_history()->set_not_kept_since("2026-01-02T03:04:05.678Z");
  now.status.mutable_history()->set_not_kept_why("No space left on device (there)");
  now.status.mutable_history()->add_warnings("history: 3.json is left out");
  const api::Top top = MakeTop(before, now);
  EXPECT_THAT(
      top.problems(),
      ElementsAre(
          "the worker on core 1 stands still", "guidewayd is stopping",
          "no backend takes new connections of 1 service: web",
          "history: not kept in /there since 2026-01-02 03:04:05 UTC: No space left on device "
          "(there)",
          "interface uplink: no link", "1 backend down: web/a (connection refused)",
          "the flow table of core 1 is 95.0% full",
          "apply of a.yaml by root was refused 2m 3s ago: "
          "a.yaml:1:2: nonsense (and 1 more)",
          "interface uplink: 12/s missed, the workers do not keep up",
          "70/s dropped: 70 no_backend",
          "core 1: 3.0/s connections find no place in its flow table",
          "the worker on core 1 is busy 100% of its time"));
  EXPECT_THAT(top.notes(),
              ElementsAre("1 backend drained by hand: web/b",
                          "1 backend with a weight by hand: web/b (0, file: 100)",
                          "1 warning about the configuration; `guideway status` shows them",
                          "history: 1 warning of the start; `guideway status` shows them"));
  const std::vector<std::string> lines = LinesOf(Show(before, now));
  EXPECT_EQ(lines[2], "! the worker on core 1 stands still");
  EXPECT_EQ(lines[14], "- 1 backend drained by hand: web/b");
  EXPECT_THAT(Show(before, now, {.colour = true}),
              HasSubstr("\033[31m! interface uplink: no link"));
}

TEST(Top, WhatIsWrongByOneLook) {
  TopLook look = Look(10);
  EXPECT_THAT(StandingProblems(look), IsEmpty());
  look.status.mutable_history()->set_kept(true);
  api::Service* service = look.services.mutable_services(0);
  for (const char* region : {"eu", "us", "ap"}) service->add_regions()->set_name(region);
  service->mutable_regions(0)->set_served_by("us");
  service->mutable_regions(1)->set_served_by("us");
  service->set_health_ignored(true);
  service->set_healthy(1);
  EXPECT_THAT(StandingProblems(look),
              ElementsAre("no backend takes new connections of 1 region: ap of web",
                          "too few are healthy (min_healthy), so health is ignored: web (1 of 2)"));
  service->set_backends_up(0);
  EXPECT_THAT(StandingProblems(look),
              ElementsAre("no backend takes new connections of 1 service: web"));
}

TEST(Top, SortedByWhatIsAskedFor) {
  TopLook before = Look(10), now = Look(11);
  now.backends.mutable_backends(0)->set_new_flows(5);
  now.backends.mutable_backends(1)->set_packets(100);
  api::Backend* c = now.backends.add_backends();
  c->set_service("web");
  c->set_name("c");
  c->set_state("up");
  c->set_active_flows(9);
  *before.backends.add_backends() = *c;
  const auto first = [&](TopOrder order) {
    for (const std::string& line : LinesOf(Show(before, now, {}, order))) {
      if (line.rfind("web      ", 0) == 0 && line.find("/2") == std::string::npos) return line[9];
    }
    return '?';
  };
  EXPECT_EQ(first(TopOrder::kTraffic), 'b');
  EXPECT_EQ(first(TopOrder::kNewConnections), 'a');
  EXPECT_EQ(first(TopOrder::kOpenConnections), 'c');
  EXPECT_EQ(first(TopOrder::kName), 'a');
  now.backends.mutable_backends(2)->set_state("down");
  EXPECT_EQ(first(TopOrder::kTraffic), 'c') << "wrong before busy";
}

TEST(Top, FitsEveryTerminal) {
  TopLook before = Many(10, 30, 20), now = Many(11, 30, 20);
  for (int i = 0; i < 300; ++i) {
    now.backends.mutable_backends(2 * i)->set_state("down");
    now.backends.mutable_backends(2 * i)->set_health(std::string(300, 'x'));
  }
  for (int i = 0; i < 40; ++i) now.status.add_events()->set_text(std::string(500, 'e'));
  for (int i = 0; i < 40; ++i) now.status.add_workers()->set_core(static_cast<uint32_t>(10 + i));
  for (size_t height = 1; height <= 120; ++height) {
    for (size_t width : {1, 2, 3, 7, 20, 40, 80, 132, 300}) {
      const std::vector<std::string> lines =
          LinesOf(Show(before, now, {.width = width, .height = height}));
      ASSERT_LE(lines.size(), height) << width;
      for (const std::string& line : lines) ASSERT_LE(Width(line), width) << height << ": " << line;
    }
  }
  // Nothing is left unused where there is more to show.
  for (size_t height : {24, 50, 100}) {
    EXPECT_EQ(LinesOf(Show(before, now, {.width = 80, .height = height})).size(), height);
  }
}

TEST(Top, EveryPartHasAPlaceOnASmallTerminal) {
  TopLook before = Many(10, 30, 20), now = Many(11, 30, 20);
  now.status.add_events()->set_text("revision 1 in force");
  const std::string screen = Show(before, now, {.width = 80, .height = 24});
  EXPECT_THAT(screen,
              AllOf(HasSubstr("CORE"), HasSubstr("INTERFACE"), HasSubstr("SERVICE  "),
                    HasSubstr("BACKEND"), HasSubstr("revision 1 in force"), HasSubstr("q quits")));
  EXPECT_THAT(screen, AllOf(HasSubstr("… "), HasSubstr(" more\n")));
  EXPECT_THAT(Show(before, now), Not(HasSubstr("more\n"))) << "all there is where there is room";
}

// A heading with nothing under it but how much is missing tells nothing.
TEST(Top, NoPartIsWithoutARowOnASmallTerminal) {
  TopLook before = Many(10, 30, 20), now = Many(11, 30, 20);
  for (int i = 0; i < 4; ++i) now.status.add_workers()->set_core(static_cast<uint32_t>(10 + i));
  now.status.add_events()->set_text("revision 1 in force");
  for (size_t height = 5; height <= 60; ++height) {
    const std::vector<std::string> lines =
        LinesOf(Show(before, now, {.width = 100, .height = height}));
    for (size_t i = 1; i < lines.size(); ++i) {
      if (lines[i].rfind("… ", 0) != 0) continue;
      EXPECT_THAT(lines[i - 1], Not(ContainsRegex("^(CORE|INTERFACE|SERVICE|$)"))) << height;
    }
  }
}

TEST(Top, EmptyLinesAreForWhereThereIsRoom) {
  TopLook before = Look(10), now = Look(11);
  const auto empty = [](const std::vector<std::string>& lines) {
    return std::count(lines.begin(), lines.end(), "");
  };
  // The head, 4 tables of 2, 2, 2 and 3 lines, the foot.
  std::vector<std::string> lines = LinesOf(Show(before, now, {.width = 100, .height = 12}));
  EXPECT_EQ(lines.size(), 12u);
  EXPECT_EQ(empty(lines), 0);
  EXPECT_THAT(Show(before, now, {.width = 100, .height = 12}), Not(HasSubstr("… ")));
  lines = LinesOf(Show(before, now, {.width = 100, .height = 17}));
  EXPECT_EQ(lines.size(), 17u);
  EXPECT_EQ(empty(lines), 5);
}

TEST(Top, ASmallTerminalShowsServicesAndBackends) {
  TopLook before = Many(10, 30, 20), now = Many(11, 30, 20);
  now.status.mutable_refused()->set_how("start");
  EXPECT_THAT(Show(before, now, {.width = 100, .height = 10}),
              AllOf(HasSubstr("!  at the start was refused 0s ago: "), HasSubstr("\nservice-0 "),
                    HasSubstr("\nservice-0  backend-0 "), HasSubstr("q quits")));
}

TEST(Top, WhatWasRefused) {
  api::Refusal refusal;
  refusal.set_time("2026-01-02T03:04:05Z");
  refusal.set_who("start");
  refusal.set_how("start");
  refusal.set_file("a.yaml");
  const std::string at = " was refused 0s ago";
  EXPECT_EQ(RefusalText(refusal), absl::StrCat("a.yaml at the start", at));
  refusal.set_who("root");
  refusal.set_how("rollback to 3");
  EXPECT_EQ(RefusalText(refusal), absl::StrCat("rollback to 3 by root", at));
  // Once something came into force since, it is nothing wrong.
  TopLook look = Look(10);
  *look.status.mutable_refused() = refusal;
  EXPECT_EQ(MakeTop(look, look).problems_size(), 1);
  look.status.mutable_refused()->set_changed_since(true);
  EXPECT_THAT(MakeTop(look, look).problems(), IsEmpty());
  EXPECT_THAT(MakeTop(look, look).notes(), ElementsAre(HasSubstr("rollback to 3")));
}

TEST(Top, TheFirstLineSaysWhetherAllIsServed) {
  TopLook before = Look(10), now = Look(11);
  now.services.add_services()->set_name("nobody");
  EXPECT_THAT(Show(before, now), HasSubstr("  serving 1 of 2 services  "));
  EXPECT_EQ(ServingText(now.status, 2, 1, {.colour = true}),
            "\033[31mserving 1 of 2 services\033[0m");
  EXPECT_EQ(ServingText(now.status, 2, 0, {.colour = true}), "\033[32mserving\033[0m");
}

TEST(Top, TheFirstLineGivesUpWhatCanBeSpared) {
  TopLook before = Look(100000), now = Look(100001);
  now.services.mutable_services(0)->set_bytes(2459875);
  now.services.mutable_services(0)->set_new_flows(54321);
  now.services.mutable_services(0)->set_active_flows(72017);
  EXPECT_EQ(LinesOf(Show(before, now, {.width = 90, .height = 24}))[0],
            "guidewayd test  serving  up 1d 3h  revision 3  bits/s 19.7M  new/s 54.3k  open 72.0k");
  EXPECT_EQ(LinesOf(Show(before, now, {.width = 80, .height = 24}))[0],
            "serving  up 1d 3h  revision 3  bits/s 19.7M  new/s 54.3k  open 72.0k");
  EXPECT_EQ(LinesOf(Show(before, now, {.width = 50, .height = 24}))[0],
            "serving  bits/s 19.7M  new/s 54.3k  open 72.0k");
}

TEST(Top, TheFootSaysThatColumnsAreMissing) {
  TopLook before = Look(10), now = Look(11);
  EXPECT_THAT(Show(before, now, {.width = 60, .height = 24}),
              ContainsRegex("\nq quits  o sorts, now by packets  2 columns more when wider\n$"));
  EXPECT_THAT(Show(before, now, {.width = 120, .height = 24}), Not(HasSubstr("columns")));
}

TEST(Top, WhatIsWrongDoesNotHideTheRest) {
  TopLook before = Many(10, 1, 100), now = Many(11, 1, 100);
  for (int i = 0; i < 90; ++i) now.backends.mutable_backends(i)->set_state("down");
  now.backends.mutable_backends(95)->set_packets(1000);
  const std::string screen = Show(before, now, {.width = 100, .height = 30});
  EXPECT_THAT(screen, ContainsRegex("backend-[0-9]+ +down"));
  EXPECT_THAT(screen, HasSubstr("backend-95"));
}

TEST(Top, HostileNamesCannotSpeakToTheTerminal) {
  TopLook before = Look(10), now = Look(11);
  const std::string evil = "\033]0;owned\007\n\x9b\xe2\x80\xae日本語";
  now.status.mutable_refused()->set_who(evil);
  now.status.mutable_refused()->set_time(evil);
  now.status.mutable_refused()->set_why(evil);
  now.status.set_version(evil);
  now.status.set_state(evil);
  now.status.mutable_interfaces(0)->set_name(evil);
  now.services.mutable_services(0)->set_name(evil);
  now.backends.mutable_backends(0)->set_health(evil);
  now.backends.mutable_backends(0)->set_state(evil);
  api::Event* event = now.status.add_events();
  event->set_text(evil);
  event->set_time(evil + evil);
  const std::string screen = Show(before, now, {.width = 200, .height = 40});
  for (const std::string& line : LinesOf(screen)) {
    for (unsigned char c : line) ASSERT_GE(c, 0x20) << line;
    EXPECT_THAT(line, Not(AnyOf(HasSubstr("\x9b"), HasSubstr("\xe2\x80\xae"))));
  }
  EXPECT_THAT(screen, HasSubstr("日本語"));
}

}  // namespace
}  // namespace guideway

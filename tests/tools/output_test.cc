#include "tools/output.h"

#include <gtest/gtest.h>

namespace guideway {
namespace {

TEST(Output, NumbersForPeople) {
  EXPECT_EQ(HumanCount(0), "0");
  EXPECT_EQ(HumanCount(9999), "9999");
  EXPECT_EQ(HumanCount(10000), "10.0k");
  EXPECT_EQ(HumanCount(72017), "72.0k");
  EXPECT_EQ(HumanCount(100000), "100k");
  EXPECT_EQ(HumanCount(1234567), "1.23M");
  EXPECT_EQ(HumanCount(999999999), "1.00G");
  EXPECT_EQ(HumanCount(UINT64_MAX), "18.4E");
  EXPECT_EQ(HumanBytes(999), "999 B");
  EXPECT_EQ(HumanBytes(1000), "1.00 kB");
  EXPECT_EQ(HumanBytes(12345678), "12.3 MB");
  EXPECT_EQ(HumanPercent(0), "0%");
  EXPECT_EQ(HumanPercent(0.00001), "<0.1%");
  EXPECT_EQ(HumanPercent(1.0 / 3), "33.3%");
  EXPECT_EQ(HumanPercent(1), "100%");
  EXPECT_EQ(HumanDuration(4), "4s");
  EXPECT_EQ(HumanDuration(4.96), "4.9s");
  EXPECT_EQ(HumanDuration(14.9), "14s");
  EXPECT_EQ(HumanDuration(185), "3m 5s");
  EXPECT_EQ(HumanDuration(7400), "2h 3m");
  EXPECT_EQ(HumanDuration(446400), "5d 4h");
  EXPECT_EQ(Counted(1, "route"), "1 route");
  EXPECT_EQ(Counted(0, "route"), "0 routes");
}

Table Example() {
  Table table({{"NAME"}, {"VIPS"}, {"N", Table::Align::kRight}});
  table.Add({"web", "198.51.100.10,198.51.100.11", {"7", Colour::kGreen}});
  table.Add({"dns", "-", "12345"});
  return table;
}

TEST(Output, ATableIsAsWideAsItsCells) {
  EXPECT_EQ(Example().Render({}),
            "NAME  VIPS                             N\n"
            "web   198.51.100.10,198.51.100.11      7\n"
            "dns   -                            12345\n");
}

TEST(Output, ATableFitsTheTerminal) {
  EXPECT_EQ(Example().Render({.width = 30}),
            "NAME  VIPS                   N\n"
            "web   198.51.100.10,19…      7\n"
            "dns   -                  12345\n");
}

TEST(Output, WhatIsSpareGoesFirst) {
  Table table({{"NAME"},
               {"VIPS"},
               {"KIND", Table::Align::kLeft, 1},
               {"N", Table::Align::kRight},
               {"M", Table::Align::kRight, 1}});
  table.Add({"web", "198.51.100.10,198.51.100.11", "tunnelled", "12345", "7"});
  EXPECT_EQ(table.Render({.width = 43}),
            "NAME  VIPS              KIND           N  M\n"
            "web   198.51.100.10,1…  tunnelled  12345  7\n");
  EXPECT_EQ(table.Render({.width = 39}),
            "NAME  VIPS             KIND           N\n"
            "web   198.51.100.10,…  tunnelled  12345\n"
            "… 1 column more when wider\n");
  EXPECT_EQ(table.Render({.width = 30}),
            "NAME  VIPS                   N\n"
            "web   198.51.100.10,19…  12345\n"
            "… 2 columns more when wider\n")
      << "its room is the others'";
  EXPECT_EQ(table.Render({.width = 20}),
            "NAME  VIPS         N\n"
            "web   198.51…  12345\n"
            "… 2 columns more wh…\n");
  size_t left_out = 1;
  EXPECT_EQ(table.Render({.width = 20}, &left_out),
            "NAME  VIPS         N\n"
            "web   198.51…  12345\n");
  EXPECT_EQ(left_out, 3u) << "added to it";
  EXPECT_EQ(table.Render({.width = 15}),
            "NAME  VIPS    N\n"
            "web   198.5…  …\n"
            "… 2 columns mo…\n")
      << "cut where the terminal ends";
}

TEST(Output, WhatCanBeSparedMostGoesFirst) {
  Table table({{"A"}, {"B", Table::Align::kLeft, 2}, {"C", Table::Align::kLeft, 1}, {"D"}});
  table.Add({"aaaa", "bbbb", "cccc", "dddd"});
  size_t left_out = 0;
  EXPECT_EQ(table.Render({.width = 21}, &left_out), "A     C     D\naaaa  cccc  dddd\n");
  EXPECT_EQ(table.Render({.width = 15}, &left_out), "A     D\naaaa  dddd\n");
}

TEST(Output, NamesAreShortenedInTheMiddle) {
  Table table({Table::Names("BACKEND"), {"HEALTH"}});
  table.Add({"edge-amsterdam-042", "connection refused"});
  table.Add({"edge-amsterdam-043", "certificate has expired"});
  EXPECT_EQ(table.Render({.width = 26}),
            "BACKEND       HEALTH\n"
            "edge-a…m-042  connection …\n"
            "edge-a…m-043  certificate…\n");
  EXPECT_EQ(CutMiddle("edge-042", 8), "edge-042");
  EXPECT_EQ(CutMiddle("edge-042", 7), "edg…042");
  EXPECT_EQ(CutMiddle("edge-042", 6), "edg…42");
  EXPECT_EQ(CutMiddle("edge-042", 3), "e…2");
  EXPECT_EQ(CutMiddle("edge-042", 2), "e…");
  EXPECT_EQ(CutMiddle("edge-042", 0), "");
  EXPECT_EQ(CutMiddle("日本日本日本", 7), "日本…本") << "wide ones stay whole";
  EXPECT_EQ(CutMiddle("abcde\xcc\x81", 3), "a…e\xcc\x81") << "an accent stays with its letter";
}

TEST(Output, SomeColumnsAreNeverShortened) {
  Table table({{"TIME", Table::Align::kLeft, 0, Table::Shorten::kNever}, {"WHO"}});
  table.Add({"2026-11-23T10:02:17", "somebody"});
  EXPECT_EQ(table.Render({.width = 27}),
            "TIME                 WHO\n"
            "2026-11-23T10:02:17  someb…\n");
}

TEST(Output, AColumnIsReadableWhileOthersCanBeSpared) {
  Table table({{"HOW", Table::Align::kLeft, 0, Table::Shorten::kEnd, 20},
               {"FILE", Table::Align::kLeft, 1}});
  table.Add({"drain web/edge-042/x", "/etc/guideway.yaml"});
  EXPECT_EQ(table.Render({.width = 37}),
            "HOW                   FILE\n"
            "drain web/edge-042/x  /etc/guideway.…\n");
  size_t left_out = 0;
  EXPECT_EQ(table.Render({.width = 36}, &left_out), "HOW\ndrain web/edge-042/x\n");
  EXPECT_EQ(table.Render({.width = 10}, &left_out), "HOW\ndrain web…\n");
}

TEST(Output, ParagraphsAreFilled) {
  const char* text = "one two three\nfour five\n\n  guideway one two three\nsix\nseven";
  EXPECT_EQ(Filled(text, 0), text);
  EXPECT_EQ(Filled(text, 9), "one two\nthree\nfour five\n\n  guideway one two three\nsix seven");
  EXPECT_EQ(Filled(text, 80), "one two three four five\n\n  guideway one two three\nsix seven");
  EXPECT_EQ(Filled(text, 1), "one\ntwo\nthree\nfour\nfive\n\n  guideway one two three\nsix\nseven");
}

TEST(Output, WidthIsInColumns) {
  EXPECT_EQ(Width("web"), 3u);
  EXPECT_EQ(Width("größe…"), 6u);
  EXPECT_EQ(Width("日本"), 4u);
  EXPECT_EQ(Width("e\xcc\x81"), 1u) << "an e and an accent for it";
  EXPECT_EQ(Width("a\nb"), 3u) << "as Printable shows it";
  EXPECT_EQ(Width(""), 0u);
}

TEST(Output, WhatTerminalsWouldObeyIsNotPrintable) {
  EXPECT_EQ(Printable("web-1 größe 日本"), "web-1 größe 日本");
  EXPECT_EQ(Printable("\033[2Ja\tb\r\n"), "?[2Ja?b??");
  EXPECT_EQ(Printable("a\xc2\x9b"
                      "2J"),
            "a?2J")
      << "a control character of two bytes";
  EXPECT_EQ(Printable("a\xff"
                      "b\xe2\x80"),
            "a?b??")
      << "not UTF-8";
  EXPECT_EQ(Printable("a\xe2\x80\xae"
                      "b"),
            "a?b")
      << "from right to left";
  EXPECT_EQ(Printable(absl::string_view("a\0b", 3)), "a?b");
  Table table({{"NAME"}, {"N"}});
  table.Add({"a\nb\033[2J", "1"});
  EXPECT_EQ(table.Render({}), "NAME     N\na?b?[2J  1\n");
}

TEST(Output, ALineIsCutAtTheEdge) {
  EXPECT_EQ(Cut("abcdef", 6), "abcdef");
  EXPECT_EQ(Cut("abcdef", 5), "abcd…");
  EXPECT_EQ(Cut("abcdef", 1), "…");
  EXPECT_EQ(Cut("abcdef", 0), "");
  EXPECT_EQ(Cut("größer", 4), "grö…");
  EXPECT_EQ(Cut("日本語", 5), "日本…");
  EXPECT_EQ(Cut("日本語", 4), "日…") << "half a character is none";
  EXPECT_EQ(Cut("\033[31mabcdef\033[0m", 6), "\033[31mabcdef\033[0m");
  EXPECT_EQ(Cut("\033[31mabcdef\033[0m gh", 4), "\033[31mabc…\033[0m") << "red ends";
  EXPECT_EQ(Cut("\033[2Jab", 9), "?[2Jab") << "no colour";
  for (size_t width = 0; width < 12; ++width) {
    EXPECT_LE(Width(Cut("a日b本c語d…e", width)), width);
  }
}

TEST(Output, RatesForPeople) {
  EXPECT_EQ(HumanRate(0), "0");
  EXPECT_EQ(HumanRate(0.04), "0");
  EXPECT_EQ(HumanRate(0.25), "0.2");
  EXPECT_EQ(HumanRate(9.94), "9.9");
  EXPECT_EQ(HumanRate(9.96), "10");
  EXPECT_EQ(HumanRate(9999), "9999");
  EXPECT_EQ(HumanRate(19679), "19.7k");
  EXPECT_EQ(HumanRate(1.23e6), "1.23M");
  EXPECT_EQ(HumanRate(1e300), "1.00E");
}

TEST(Output, ColourTakesNoRoom) {
  EXPECT_EQ(Coloured("up", Colour::kGreen, {}), "up");
  EXPECT_EQ(Coloured("up", Colour::kGreen, {.colour = true}), "\033[32mup\033[0m");
  const std::string coloured = Example().Render({.colour = true});
  EXPECT_NE(coloured.find("      \033[32m7\033[0m\n"), std::string::npos) << coloured;
}

}  // namespace
}  // namespace guideway

package main

import (
	"testing"
	"time"

	"github.com/weirlb/weir/test/backend"
)

func TestFlagsDescribeAPeer(t *testing.T) {
	opt, control, err := parse([]string{
		"--name", "b", "--listen", "127.0.0.1:9002", "--control", "127.0.0.1:9102", "--slots", "2", "--speed", "0.5",
		"--class", "light:5:exp", "--class", "heavy:80:pareto:2.2", "--class", "*:1", "--affinity", "heavy=0.3", "--keep-alive", "1s", "--open-after", "10s",
		"--brownout", "60s,20s,0.15", "--cold", "5,30s", "--seed", "7", "--settings", `{"hang":0.1}`,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := opt.Settings
	if opt.Name != "b" || opt.Listen != "127.0.0.1:9002" || control != "127.0.0.1:9102" || s.Slots != 2 || s.Speed != 0.5 || s.Hang != 0.1 ||
		s.Classes["light"] != (backend.Dist{MeanMS: 5, Dist: "exp"}) || s.Classes["heavy"].Shape != 2.2 || s.Default.MeanMS != 1 || s.Affinity["heavy"] != 0.3 ||
		opt.KeepAlive != time.Second || opt.OpenAfter != 10*time.Second || opt.ColdFactor != 5 || opt.Warm != 30*time.Second || opt.Seed != 7 ||
		opt.Brownout != (backend.Brownout{From: time.Minute, Every: time.Minute, For: 20 * time.Second, Speed: 0.15}) {
		t.Errorf("%+v, control %s", opt, control)
	}
}

func TestFlagsThatCannotBeMeantAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"--class", "light"},
		{"--class", "light:x"},
		{"--class", "light:1:pareto:x"},
		{"--class", "light:1:gauss"},
		{"--affinity", "heavy"},
		{"--brownout", "60s"},
		{"--brownout", "a,b,c"},
		{"--cold", "5"},
		{"--settings", "{"},
		{"stray"},
	} {
		if _, _, err := parse(args); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}

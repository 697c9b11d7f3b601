package observe

import (
	"errors"
	"testing"
)

// check holds what must be true of a batch after any decode: only records that pass are in it, with indexes into its
// lists, and the error tells where the good ones end.
func check(t *testing.T, b *Batch, err error) {
	t.Helper()
	var at *RecordError
	switch {
	case errors.As(err, &at):
		if at.Record != len(b.Records) {
			t.Fatalf("error at record %d, but %d are kept", at.Record, len(b.Records))
		}
	case err != nil && len(b.Records) != 0:
		t.Fatalf("%d records kept after %v", len(b.Records), err)
	}
	for i := range b.Records {
		r := &b.Records[i]
		if fault := r.fault(); fault != "" {
			t.Fatalf("record %d was let through: %s", i, fault)
		}
		_, _, _ = b.Pools[r.Pool], b.Classes[r.Class], b.Peers[r.Peer]
	}
	for _, list := range [...][]string{b.Pools, b.Classes, b.Peers} {
		if len(list) > MaxNames {
			t.Fatalf("%d names", len(list))
		}
	}
}

func FuzzDecodeCompact(f *testing.F) {
	b := &Batch{Instance: "web1"}
	for range 3 {
		r := good()
		r.Reported, r.Work = Reported(len(b.Records)*30000), float32(len(b.Records))
		if err := b.Add("api", "GET /users/{n}", "[::1]:9001", r); err != nil {
			f.Fatal(err)
		}
	}
	b.Inflight = []Inflight{{"api", "[::1]:9001", 7}}
	body, err := b.AppendCompact(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add(body[:len(body)-5])
	f.Add([]byte("{\"v\":1,\"records\":0,\"pools\":{}}\n"))
	f.Add([]byte("{\"v\":1,\"records\":1,\"pools\":[\"\\ud83d\\ude00\\ud83d\"]}\n"))
	f.Add([]byte("{\"v\":2}\n"))
	var reused Batch
	f.Fuzz(func(t *testing.T, body []byte) {
		err := reused.DecodeCompact(body)
		check(t, &reused, err)
		if err != nil {
			return
		}
		again, err := reused.AppendCompact(nil)
		if err != nil {
			t.Fatal(err)
		}
		var second Batch
		if err := second.DecodeCompact(again); err != nil {
			t.Fatalf("what was accepted is refused when encoded again: %v", err)
		}
		if d := same(&reused, &second); d != "" {
			t.Fatal(d)
		}
	})
}

func FuzzDecodeNDJSON(f *testing.F) {
	f.Add([]byte(`{"pool":"api","class":"*","peer":"10.0.0.1:8080","attempt":1,"kind":"ok","status":200,"flags":0,"inflight":3,"propensity":0.9,"header_ms":4.2,"total_ms":5.0,"weight":0,"predicted_ms":5.1,"age_ms":0,"bytes":512,"load":-1}`))
	f.Add([]byte("{\"pool\":\"a\",\"peer\":\"\\u00e9\\n\\ud83d\",\"total_ms\":1e-3}\n\n{}"))
	f.Add([]byte(`{"pool":"a","peer":"b","total_ms":-0.0E+2}`))
	f.Add([]byte(`{"pool":"a","peer":"b","total_ms":1,"inflight_reported":65534}`))
	var reused Batch
	f.Fuzz(func(t *testing.T, body []byte) {
		err := reused.DecodeNDJSON(body)
		check(t, &reused, err)
		if err != nil {
			return
		}
		again, err := reused.AppendNDJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		var second Batch
		if err := second.DecodeNDJSON(again); err != nil {
			t.Fatalf("what was accepted is refused when encoded again: %v", err)
		}
		if d := same(&reused, &second); d != "" {
			t.Fatal(d)
		}
	})
}

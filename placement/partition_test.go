package placement

import (
	"encoding/json"
	"testing"
)

func TestARecordOfOldIsRead(t *testing.T) {
	var p Partition
	if err := json.Unmarshal([]byte(`{"id":3,"seed":[1,2],"replicas":["n1"]}`), &p); err != nil {
		t.Fatal(err)
	}
	if p.ID != 3 || len(p.Replicas) != 1 || p.Replicas[0] != (Replica{Node: "n1"}) || p.On("n1") == nil || p.On("n2") != nil {
		t.Errorf("it reads as %+v", p)
	}
	text, err := json.Marshal(&p)
	if err != nil {
		t.Fatal(err)
	}
	var again Partition
	if err := json.Unmarshal(text, &again); err != nil || again.Replicas[0] != p.Replicas[0] {
		t.Errorf("written and read again it is %+v, error %v", again, err)
	}
}

func TestAProcessThatStartsHasReplicasOfItsOwn(t *testing.T) {
	p := Partition{ID: 3}
	first, other, second := &Node{Name: "n1", Number: 1, Incarnation: "x"}, &Node{Name: "n2", Number: 2, Incarnation: "y"}, &Node{Name: "n1", Number: 1, Incarnation: "z"}
	if !p.Settle(first, nil) || p.Generation != 1 || p.Replicas[0].ID != 1<<8|1 || len(p.Founders) != 1 || p.Founders[0] != p.Replicas[0].ID {
		t.Fatalf("the first takes it as %+v", p)
	}
	if p.Settle(first, nil) || p.Settle(other, nil) {
		t.Fatal("who has it, or has nothing to do with it, changes it")
	}
	if !p.Settle(second, nil) || p.Generation != 2 || p.Replicas[0].ID != 2<<8|1 || p.Founders[0] != p.Replicas[0].ID {
		t.Fatalf("alone and restarted it founds anew: %+v", p)
	}
	p.Replicas = append(p.Replicas, p.issue(other))
	before, generation := p.Replicas[1], p.Generation
	if !p.Settle(first, nil) || p.Generation != generation || p.Replicas[0].ID != 4<<8|1 || p.Replicas[0].Life != "x" || p.Replicas[1] != before {
		t.Fatalf("one of two and restarted it is another replica: %+v", p)
	}
}

package agents

var nodes = group{
	"each gets a range of addresses": func(f *flow) {
		for _, name := range []string{"a", "b", "c"} {
			f.await("nodes/"+f.node(name), "o.spec.podCIDR.startsWith('10.24') && o.spec.podCIDRs == [o.spec.podCIDR]")
		}
	},
}

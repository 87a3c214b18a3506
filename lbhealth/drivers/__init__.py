"""Data planes: memory, the kernel by netlink, the kernel by ipvsadm."""

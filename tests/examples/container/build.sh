sudo python3 tools/image.py notnow.oci.tar
podman load --input notnow.oci.tar

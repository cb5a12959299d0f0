# The SSD. `cygnet disks HOST` tells which there are; it is erased.
{
  disko.devices = {
    disk.ssd = {
      device = "/dev/disk/by-id/usb-YOUR_SSD";
      type = "disk";
      content = {
        type = "gpt";
        partitions = {
          # The board's firmware and U-Boot; FAT32 of a type that every Pi's boot loader looks at.
          FIRMWARE = {
            priority = 1;
            size = "256M";
            type = "0700";
            content = {
              type = "filesystem";
              format = "vfat";
              mountpoint = "/boot/firmware";
            };
          };
          boot = {
            priority = 2;
            size = "1G";
            type = "EF00";
            # “Legacy BIOS bootable”: by this U-Boot finds extlinux.conf.
            attributes = [ 2 ];
            content = {
              type = "filesystem";
              format = "vfat";
              mountpoint = "/boot";
            };
          };
          zfs = {
            size = "100%";
            content = {
              type = "zfs";
              pool = "rpool";
            };
          };
        };
      };
    };
    zpool.rpool = {
      type = "zpool";
      options.ashift = "12";
      rootFsOptions = {
        compression = "zstd";
        acltype = "posixacl";
        xattr = "sa";
        mountpoint = "none";
      };
      datasets = {
        root = {
          type = "zfs_fs";
          mountpoint = "/";
          options.mountpoint = "legacy";
        };
        nix = {
          type = "zfs_fs";
          mountpoint = "/nix";
          options = {
            mountpoint = "legacy";
            atime = "off";
          };
        };
        home = {
          type = "zfs_fs";
          mountpoint = "/home";
          options.mountpoint = "legacy";
        };
      };
    };
  };
}

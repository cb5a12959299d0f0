# Store paths that hold everything a NAR can hold and a copying program can get wrong.
{ build }:
let
  names = build.run {
    name = "variety-of-names";
    script = ''
      mkdir -p $out/empty $out/nested/deeper/empty $out/case
      cd $out
      : > zero-bytes
      echo '#!/bin/sh' > executable
      chmod 0755 executable
      : > zero-bytes-executable
      chmod 0755 zero-bytes-executable
      echo plain > plain
      ln -s plain relative
      ln -s $out/plain absolute
      ln -s /no/such/file dangling-absolute
      ln -s ../../../../../no-such-store-path dangling-relative
      ln -s . loop
      ln -s "$(printf 'target-\377')" dangling-bytes
      echo upper > case/README
      echo lower > case/readme
      echo mixed > case/ReadMe
      # Latin-1, a lone continuation byte, and a sequence cut short: none of them is UTF-8.
      echo 1 > "$(printf 'caf\351')"
      echo 2 > "$(printf '\200')"
      mkdir "$(printf 'dir-\342\202')"
      echo 3 > "$(printf 'dir-\342\202/\377\376')"
      echo 4 > "$(printf 'sch\303\266n')"
      echo 5 > 'with space'
      echo 6 > "$(printf 'line\nbreak')"
      echo 7 > ./-dash
      echo 8 > "$(head -c 255 /dev/zero | tr '\0' n)"
      # Sizes around a NAR's padding.
      for size in 1 7 8 9 15 16 17; do
        head -c $size /dev/zero > size-$size
      done
    '';
  };

  manyFiles = build.run {
    name = "ten-thousand-files";
    script = ''
      i=0
      while [ $i -lt 10000 ]; do
        dir=$out/$((i / 100))
        [ -d $dir ] || mkdir -p $dir
        echo "small file $i" > $dir/file-$i
        i=$((i + 1))
      done
    '';
  };

  largeFile = build.run {
    name = "large-file";
    script = ''
      mkdir -p $out
      seq 1 6000000 | head -c 44000000 > $out/large
    '';
  };
in
{
  inherit names;
  all = [
    names
    manyFiles
    largeFile
  ];
}

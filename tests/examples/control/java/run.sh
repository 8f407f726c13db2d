javac -cp "$JARS" -d classes Orders.java OrdersTest.java
java -jar "$JUNIT" --class-path "classes:$JARS" --scan-class-path

npx openapi-typescript "$NOTNOW_CONTROL/v1/openapi.json" --default-non-nullable=false -o notnow.ts
npx tsc --strict --skipLibCheck --target es2022 --module nodenext --types node orders.test.ts
node --test orders.test.js
